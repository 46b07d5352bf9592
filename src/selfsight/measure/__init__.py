"""Measuring representations: metrics, probes and analyses."""
