"""Evaluation: probes and analyses beside their baselines."""
