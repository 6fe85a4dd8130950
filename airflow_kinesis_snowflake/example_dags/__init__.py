"""DAG files that do nothing before their Variables are set: load them as examples, or copy them."""
