"""Links from a task to its resources."""
