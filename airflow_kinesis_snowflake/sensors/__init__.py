"""What tasks can wait for."""
