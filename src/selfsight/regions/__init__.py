"""Regions of images: boxes and proposals."""
