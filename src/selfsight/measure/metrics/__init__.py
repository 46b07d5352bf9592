"""Metrics: overlap of boxes and masks, average precision, keypoints, agreement of partitions."""
