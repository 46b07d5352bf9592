"""Generative methods: images are generated."""
