"""Rendered scenes of which everything is known."""
