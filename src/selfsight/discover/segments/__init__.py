"""Semantic segments over a whole data set without labels."""
