"""Analyses of a network's layers: equivariance, similarity, dissection, cues."""
