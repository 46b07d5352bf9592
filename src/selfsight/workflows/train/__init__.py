"""Training: request, resolved configuration, run."""
