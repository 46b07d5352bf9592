"""Backbones for sounds."""
