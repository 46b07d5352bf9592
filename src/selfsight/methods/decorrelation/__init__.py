"""Coordinates of the embedding say different things."""
