"""Discoveries: find something, score it where the truth is known, and compare it with baselines."""
