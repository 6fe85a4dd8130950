"""Ways in which rows get into a warehouse."""
