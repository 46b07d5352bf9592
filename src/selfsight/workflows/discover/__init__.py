"""Discoveries: a search, its scores on annotated data, and baselines."""
