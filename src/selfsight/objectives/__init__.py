"""Losses and other quantities as pure functions. Memory lives in ``parts``; neither knows the other."""
