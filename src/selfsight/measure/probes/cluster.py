"""k-means, and how its clusters agree with classes."""

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
from selfsight.measure.results import Features, Scores, spread_of_table
from selfsight.objectives.assign import kmeans

__all__ = ["cluster"]

AGREEMENTS = {
    "acc": matched_accuracy,
    "nmi": normalised_mutual_information,
    "ami": adjusted_mutual_information,
    "ari": adjusted_rand,
}


def cluster(features: Features, *, clusters: int | None = None, restarts: int = 3, seed: int = 0) -> Scores:
    """k-means on unit-length training features, as many clusters as classes; agreement of the test samples' clusters with their classes.

    ACC by the best one-to-one matching, NMI and AMI with arithmetic means, ARI.
    """
    train, _, test, truth = features.known
    count = clusters or len(np.unique(truth))
    rows = normalize(torch.from_numpy(np.array(train, dtype=np.float32)))
    found = kmeans(rows, min(count, len(rows)), seed=seed, restarts=restarts)
    asked = normalize(torch.from_numpy(np.array(test, dtype=np.float32)))
    labels = torch.cdist(asked, found.centroids).argmin(1).numpy()
    table = contingency(labels, truth)
    words = (
        f"k-means (k-means++, best of {restarts}) of unit-length training features into {count} clusters; test samples by nearest centroid"
    )
    readout = Readout("centroids", "output", {"centroids": found.centroids.numpy()}, (), {"unit_length": True, "seed": seed})
    return Scores(spread_of_table(table, AGREEMENTS), words, readout)
