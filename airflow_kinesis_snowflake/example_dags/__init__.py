"""DAG files to load as examples, or to copy: none changes anything before somebody wants it to."""
