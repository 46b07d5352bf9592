"""Dense features: one vector a location, their affinities, eigenvectors, correspondences and propagation."""
