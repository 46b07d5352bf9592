"""Baselines that are told the classes, to measure the others against."""
