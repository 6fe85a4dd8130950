"""Deleting the tables, offsets, channels and consumers that nobody uses any more."""
