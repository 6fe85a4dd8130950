"""Ways in which pages of records come in."""
