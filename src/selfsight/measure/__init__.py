"""Measures: a number, its spread, and the floors beside it."""
