"""Supervised baselines, for comparison."""
