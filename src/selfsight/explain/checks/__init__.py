"""Checks of explanations: sanity checks, the pointing game, diagnosis."""
