"""Weighted k-nearest neighbours."""

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
    """The class of each test row: its neighbours by cosine vote with weight ``exp(cos / τ)`` (Wu et al. 2018, arXiv:1805.01978)."""
    cosines, places = nearest(test, train, neighbours)
    weights = np.exp((cosines - cosines[:, :1]).astype(np.float64) / temperature)
    ballots = np.zeros((len(test), classes or int(labels.max()) + 1))
    np.add.at(ballots, (np.arange(len(test))[:, None], labels[places]), weights)
    return ballots.argmax(1)


def knn(features: Features, *, neighbours: int = 20, temperature: float = 0.07) -> Scores:
    """The share of test samples whose class the vote finds: the protocol of DINO (Caron et al. 2021, arXiv:2104.14294), k = 20, τ = 0.07."""
    train, labels, test, truth = features.known
    guess = vote(train, labels, test, neighbours=neighbours, temperature=temperature)
    words = f"{neighbours} nearest training samples by cosine vote with weight exp(cos / {temperature:g}); frozen features"
    return Scores({"top1": proportion(guess == truth)}, words)
