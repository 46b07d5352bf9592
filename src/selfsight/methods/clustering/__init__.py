"""Assignments are made, and learnt."""
