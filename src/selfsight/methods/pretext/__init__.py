"""Pretext tasks: a transformation or a missing part of the image is predicted."""
