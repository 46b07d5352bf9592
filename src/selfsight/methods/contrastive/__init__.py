"""Contrastive methods: views of one image attract, different images repel."""
