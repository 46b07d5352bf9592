"""Clustering methods: predict cluster assignments that are made from the features."""
