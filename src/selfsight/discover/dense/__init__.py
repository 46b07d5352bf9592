"""Dense features: one vector per location, their affinities, eigenvectors, correspondences and propagation."""
