"""Reset and cleanup of state: first a plan as data, then its application."""
