"""What is hidden is painted."""
