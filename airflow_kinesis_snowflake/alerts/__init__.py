"""What is worth an alert, and beyond which threshold: pure, and shared by the page and the alerts."""
