"""Whole images: clusters, near-duplicates, and which images to label first."""
