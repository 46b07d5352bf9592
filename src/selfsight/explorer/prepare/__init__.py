"""Prepare what the explorer shows: features, clusters, maps, thumbnails."""
