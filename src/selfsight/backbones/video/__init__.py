"""Backbones for video clips."""
