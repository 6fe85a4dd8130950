"""The check: what the promises rest on, tried on the user's own account."""
