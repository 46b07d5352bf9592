"""Decorrelation methods: coordinates of the embedding are made uncorrelated."""
