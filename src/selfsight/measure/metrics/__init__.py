"""Metrics: overlap, average precision, agreement of partitions."""
