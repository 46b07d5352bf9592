"""Evaluation: probes and analyses with baselines."""
