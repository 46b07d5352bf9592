"""Explain a representation: attribution, inversion, activation maximisation, and checks of explanations."""
