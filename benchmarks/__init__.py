"""What the package costs and how fast it is, beside other ways of doing the same: ``make bench``."""
