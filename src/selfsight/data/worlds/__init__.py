"""Rendered scenes with complete ground truth."""
