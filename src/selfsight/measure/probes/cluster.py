"""k-means clustering of features, compared with classes."""

import numpy as np
import torch
from torch.nn.functional import normalize

from selfsight.core.readout import Readout
from selfsight.measure.metrics.agreement import (
    adjusted_mutual_information,
    adjusted_rand,
    contingency,
    matched_accuracy,
    normalised_mutual_information,
)
from selfsight.measure.results import Features, Scores, bootstrap_table
from selfsight.objectives.assign import kmeans

__all__ = ["cluster"]

AGREEMENTS = {
    "acc": matched_accuracy,
    "nmi": normalised_mutual_information,
    "ami": adjusted_mutual_information,
    "ari": adjusted_rand,
}


def cluster(features: Features, *, clusters: int | None = None, restarts: int = 3, seed: int = 0) -> Scores:
    """Agreement of k-means clusters with classes: ACC by the best one-to-one matching, NMI and AMI (arithmetic means), ARI.

    k-means is fitted to unit-length training features; test samples are assigned to the nearest centroid and scored.

    Args:
        features: labelled features.
        clusters: number of clusters; by default the number of classes in the test part.
        restarts: k-means runs, of which the best is kept.
        seed: seed of k-means.
    """
    train, _, test, truth = features.known
    count = clusters or len(np.unique(truth))
    rows = normalize(torch.from_numpy(np.array(train, dtype=np.float32)))
    found = kmeans(rows, min(count, len(rows)), seed=seed, restarts=restarts)
    test_rows = normalize(torch.from_numpy(np.array(test, dtype=np.float32)))
    labels = torch.cdist(test_rows, found.centroids).argmin(1).numpy()
    table = contingency(labels, truth)
    protocol = (
        f"k-means (k-means++, best of {restarts}) of unit-length training features into {count} clusters; test samples by nearest centroid"
    )
    readout = Readout("centroids", "output", {"centroids": found.centroids.numpy()}, (), {"unit_length": True, "seed": seed})
    return Scores(bootstrap_table(table, AGREEMENTS), protocol, readout)
