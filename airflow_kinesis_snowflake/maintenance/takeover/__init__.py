"""Importing the checkpoints of other consumers, so that an application goes on where they stopped."""
