"""Inversion: reconstruct images from their features."""
