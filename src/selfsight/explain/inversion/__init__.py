"""Inversion: images that have the features of a given image."""
