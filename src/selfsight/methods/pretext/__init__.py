"""A transformation is predicted."""
