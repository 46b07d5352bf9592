"""Preparation of a data set for the explorer: features, clusters, maps, thumbnails."""
