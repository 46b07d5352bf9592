"""Masked image modelling: masked patches are predicted."""
