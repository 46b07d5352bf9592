"""Weighted k-nearest-neighbour classification."""

import numpy as np
from jaxtyping import Float, Int

from selfsight.bank.nearest import nearest
from selfsight.measure.results import Features, Scores, proportion

__all__ = ["knn", "vote"]


def vote(
    train: Float[np.ndarray, "train dim"],
    labels: Int[np.ndarray, " train"],
    test: Float[np.ndarray, "test dim"],
    *,
    neighbours: int = 20,
    temperature: float = 0.07,
    classes: int | None = None,
) -> Int[np.ndarray, " test"]:
    """k-NN classification: neighbours by cosine similarity vote with weight ``exp(cos / τ)`` (Wu et al. 2018, arXiv:1805.01978).

    Args:
        train: training features (N, D).
        labels: classes (N,) of the training features, from 0.
        test: test features (M, D).
        neighbours: k.
        temperature: τ.
        classes: number of classes; by default the largest label plus one.

    Returns:
        Predicted class (M,) of each test feature.
    """
    cosines, rows = nearest(test, train, neighbours)
    weights = np.exp((cosines - cosines[:, :1]).astype(np.float64) / temperature)
    votes = np.zeros((len(test), classes or int(labels.max()) + 1))
    np.add.at(votes, (np.arange(len(test))[:, None], labels[rows]), weights)
    return votes.argmax(1)


def knn(features: Features, *, neighbours: int = 20, temperature: float = 0.07) -> Scores:
    """k-NN accuracy on the test part, by the protocol of DINO (Caron et al. 2021, arXiv:2104.14294): k = 20, τ = 0.07.

    Args:
        features: labelled features.
        neighbours: k.
        temperature: τ.
    """
    train, labels, test, truth = features.known
    predicted = vote(train, labels, test, neighbours=neighbours, temperature=temperature)
    protocol = f"{neighbours} nearest training samples by cosine vote with weight exp(cos / {temperature:g}); frozen features"
    return Scores({"top1": proportion(predicted == truth)}, protocol)
