"""What is worth an alert, and from which value on: pure, and the same for the page and for alerts."""
