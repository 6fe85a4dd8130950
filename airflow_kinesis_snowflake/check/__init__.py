"""The check: what the promises rest on, tested on the user's own account."""
