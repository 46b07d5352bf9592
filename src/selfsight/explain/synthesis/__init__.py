"""Synthesis: images that maximise a unit, a cluster or a class."""
