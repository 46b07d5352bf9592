"""Quantised reverse probing: predict the cluster of an image's features from its annotations (Laina et al. 2022, arXiv:2209.03268).

Features are quantised to clusters c by k-means; a linear classifier ``q(c | y) = softmax(W y + b)`` of concepts y is fitted to the
training part. With CE the cross-entropy of q on the test part and H the entropy of its clusters, both in bits::

    I(c; y) >= H(c) - CE

because no classifier is better than the true conditional. A linear probe predicts single concepts from features; the reverse probe
measures whether concepts suffice, including combinations (a red apple) that no single concept describes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch.nn.functional import normalize

from selfsight.core.errors import DataError, UsageError
from selfsight.data.source import Truth
from selfsight.measure.metrics.agreement import adjusted_mutual_information, contingency
from selfsight.measure.probes.linear import Probe, fit_probe, held_out
from selfsight.measure.results import Features, Score, Scores
from selfsight.objectives.assign import kmeans

__all__ = ["Concepts", "concepts_of", "reverse", "reverse_by_clusters", "reverse_without"]

ROWS = 3000
"""Maximum number of training samples and of test samples."""
CLUSTERS = 32
VALUES = 16
"""Up to this number of distinct values of a numeric attribute each is a concept; otherwise its quartiles are."""
PENALTIES = tuple(10.0**power for power in range(1, -7, -1))
DRAWS = 200


@dataclass(frozen=True)
class Concepts:
    """Annotations of samples, one column per concept: 1 where it is present, or its degree.

    Attributes:
        train: (N, C) of the training part.
        test: (M, C) of the test part.
        names: names of the columns.
        groups: group of each column, such as ``hue`` for the four quartiles of a hue.
    """

    train: Float[np.ndarray, "train concept"]
    test: Float[np.ndarray, "test concept"]
    names: tuple[str, ...]
    groups: tuple[str, ...]


def concepts_of(train: Truth, test: Truth) -> Concepts | None:
    """Concepts from labels and attributes that both parts have; None if there are none.

    Labels, texts, booleans and numbers of at most 16 distinct values become one column per value; other numbers are binned by the
    quartiles of the training part. Unknown values are zero in every column. Omitted are attributes with one value only, texts of more than
    64 values (names rather than concepts) and attributes that duplicate another one under other names.

    Args:
        train: annotations of the training part.
        test: annotations of the test part.
    """
    found: dict[str, tuple[np.ndarray, np.ndarray, tuple[str, ...]]] = {}
    if train.labels is not None and test.labels is not None:
        count = max(int(train.labels.max(initial=-1)) + 1, len(train.classes))
        found["label"] = (train.labels, test.labels, train.classes or tuple(str(label) for label in range(count)))
    shared = [name for name in train.attributes if name in test.attributes]
    for name in sorted(shared, key=lambda name: train.attributes[name].dtype != object):  # texts before the numbers that encode them
        coded = _codes(train.attributes[name], test.attributes[name])
        if len(coded[2]) > 1 and not any(_renames(coded[0], other[0]) for other in found.values()):
            found[name] = coded
    if not found:
        return None
    return Concepts(
        np.concatenate([_one_hot(codes, len(names)) for codes, _, names in found.values()], 1),
        np.concatenate([_one_hot(codes, len(names)) for _, codes, names in found.values()], 1),
        tuple(f"{group}={name}" for group, (*_, names) in found.items() for name in names),
        tuple(group for group, (*_, names) in found.items() for _ in names),
    )


def _codes(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """A code for each sample of both parts, -1 where unknown, and the names of the codes."""
    if train.dtype == object or train.dtype.kind == "U":
        values = sorted({str(value) for value in train if value})
        code_of = {value: code for code, value in enumerate(values)} if len(values) <= 4 * VALUES else {}
        train_codes, test_codes = (np.array([code_of.get(str(value), -1) for value in part], dtype=np.int64) for part in (train, test))
        return train_codes, test_codes, tuple(code_of)
    left, right = train.astype(float), test.astype(float)
    values = np.unique(left[np.isfinite(left)])
    if len(values) <= VALUES:
        train_codes, test_codes = (np.where(np.isin(part, values), np.searchsorted(values, part), -1) for part in (left, right))
        return train_codes, test_codes, tuple(f"{value:g}" for value in values)
    edges = np.quantile(left[np.isfinite(left)], (0.25, 0.5, 0.75))
    train_codes, test_codes = (np.where(np.isfinite(part), np.searchsorted(edges, part), -1) for part in (left, right))
    return train_codes, test_codes, tuple(f"quarter {quarter}" for quarter in range(1, 5))


def _renames(left: np.ndarray, right: np.ndarray) -> bool:
    """Whether both attributes induce the same partition of the samples."""
    pairs = len(np.unique(np.stack([left, right]), axis=1).T)
    return pairs == len(np.unique(left)) == len(np.unique(right))


def _one_hot(codes: Int[np.ndarray, " sample"], count: int) -> Float[np.ndarray, "sample concept"]:
    return (codes[:, None] == np.arange(count)).astype(np.float32)


@dataclass(frozen=True)
class _Quantised:
    """Concepts of both parts and the clusters of their features."""

    concepts: Concepts
    train: Int[np.ndarray, " train"]
    test: Int[np.ndarray, " test"]
    count: int

    def predict(self, keep: Bool[np.ndarray, " concept"] | None = None, *, shuffled: int | None = None) -> "_Prediction":
        """Predict the clusters of the test part from concepts.

        Args:
            keep: mask of the columns to use; all by default.
            shuffled: seed of a permutation of the concepts over samples (control); none by default.
        """
        train_concepts, test_concepts = self.concepts.train, self.concepts.test
        if keep is not None:
            train_concepts, test_concepts = train_concepts[:, keep], test_concepts[:, keep]
        if shuffled is not None:
            generator = np.random.default_rng(shuffled)
            train_concepts, test_concepts = generator.permutation(train_concepts), generator.permutation(test_concepts)
        probe = _fit_classifier(train_concepts, self.train, self.count)
        log_probabilities = _log_probabilities(probe, test_concepts)
        return _Prediction(
            self.test, log_probabilities.argmax(1), log_probabilities[np.arange(len(log_probabilities)), self.test], self.count
        )


@dataclass(frozen=True)
class _Prediction:
    """Clusters of test samples, those predicted from concepts, and the log2 probability of the true one."""

    truth: Int[np.ndarray, " sample"]
    guess: Int[np.ndarray, " sample"]
    log: Float[np.ndarray, " sample"]
    count: int

    def values(self, weights: Float[np.ndarray, "draw sample"]) -> dict[str, np.ndarray]:
        """All scores, for each weighting of the samples (rows that sum to one)."""
        entropy, predicted_entropy = (_entropy(weights @ np.eye(self.count)[codes]) for codes in (self.truth, self.guess))
        bits = entropy + weights @ self.log
        mean_entropy = (entropy + predicted_entropy) / 2
        return {
            "bits": bits,
            "nmi": np.divide(bits, entropy, out=np.zeros_like(bits), where=entropy > 0),
            "nmi_mean": np.divide(bits, mean_entropy, out=np.zeros_like(bits), where=mean_entropy > 0),
            "top1": weights @ (self.truth == self.guess),
        }

    def scores(self, seed: int = 0) -> dict[str, Score]:
        """All scores with bootstrap intervals over test samples."""
        count = len(self.truth)
        value = self.values(np.full((1, count), 1 / count))
        drawn = self.values(np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), DRAWS) / count)
        return {name: _about(float(value[name][0]), drawn[name]) for name in value}

    def agreement(self, seed: int = 0, draws: int = 20) -> Score:
        """Mutual information of predicted and true clusters, adjusted for chance (AMI)."""
        table, total = contingency(self.guess, self.truth), len(self.truth)
        drawn = np.random.default_rng(seed).multinomial(total, table.ravel() / total, draws).reshape(draws, *table.shape)
        return _about(adjusted_mutual_information(table), np.array([adjusted_mutual_information(one) for one in drawn]))


def _about(value: float, drawn: Float[np.ndarray, " draw"]) -> Score:
    """A value with the quantiles of the bootstrap deviations from their mean: entropies of bootstrap samples are biased low."""
    low, high = np.quantile(drawn, (0.025, 0.975)) - drawn.mean()
    return Score(value, value + float(low), value + float(high))


def _entropy(shares: Float[np.ndarray, "draw cluster"]) -> Float[np.ndarray, " draw"]:
    """Entropy in bits."""
    return -(shares * np.log2(np.where(shares > 0, shares, 1.0))).sum(1)


def _fit_classifier(concepts: Float[np.ndarray, "sample concept"], codes: Int[np.ndarray, " sample"], count: int) -> Probe:
    """``softmax(W y + b)``; the penalty minimises the cross-entropy on a fifth of the training part, strong penalties first.

    The strongest penalty predicts the cluster frequencies, so uninformative concepts cost almost no bits.
    """
    validation = held_out(codes, 0)
    best, chosen, probe, without_improvement = np.inf, PENALTIES[0], None, 0
    for penalty in PENALTIES:
        probe = fit_probe(concepts[~validation], codes[~validation], count, penalty, standardise=False, rounds=60, start=probe)
        loss = -float(_log_probabilities(probe, concepts[validation])[np.arange(int(validation.sum())), codes[validation]].mean())
        without_improvement = 0 if loss < best else without_improvement + 1
        if loss < best:
            best, chosen = loss, penalty
        if without_improvement == 2:
            break
    return fit_probe(concepts, codes, count, chosen, standardise=False, rounds=200)


def _log_probabilities(probe: Probe, concepts: Float[np.ndarray, "sample concept"]) -> Float[np.ndarray, "sample cluster"]:
    """``log2 q(c | y)``."""
    logits = torch.from_numpy(concepts).double() @ probe.weight.double().T + probe.bias.double()
    return (logits.log_softmax(1) / np.log(2)).numpy()


def _quantise(features: Features, concepts: Concepts | None, clusters: int, seed: int) -> _Quantised:
    """k-means of unit-length training features; test samples are assigned to the nearest centroid.

    Raises:
        DataError: there are neither labels nor attributes.
        UsageError: fewer than two clusters.
    """
    if clusters < 2:
        raise UsageError(f"Reverse probing needs two or more clusters, not {clusters}.", "Set clusters to 2 or more.")
    generator = np.random.default_rng(seed)
    train_rows, test_rows = (np.sort(generator.permutation(len(part))[:ROWS]) for part in (features.train, features.test))
    train_truth, test_truth = features.truths or (
        Truth(features.train_labels, features.classes),
        Truth(features.test_labels, features.classes),
    )
    if concepts is None:
        concepts = concepts_of(train_truth.take(train_rows), test_truth.take(test_rows))
    else:
        concepts = replace(concepts, train=concepts.train[train_rows], test=concepts.test[test_rows])
    if concepts is None:
        raise DataError("Reverse probing needs labels or attributes, and the data have none.", "Give labelled --train and --test.")
    train_features, test_features = (
        normalize(torch.from_numpy(np.array(part[chosen], dtype=np.float32)))
        for part, chosen in ((features.train, train_rows), (features.test, test_rows))
    )
    found = kmeans(train_features, min(clusters, len(train_features)), seed=seed)
    return _Quantised(concepts, found.labels.numpy(), torch.cdist(test_features, found.centroids).argmin(1).numpy(), len(found.centroids))


def reverse(features: Features, concepts: Concepts | None = None, *, clusters: int = CLUSTERS, seed: int = 0) -> Scores:
    """Bits of the clusters of a representation that concepts predict with a linear classifier on the test part.

    ``bits``: the bound ``H(c) - CE``; negative if the classifier is worse than the test part's cluster frequencies. ``nmi``: bits over
    H(c). ``nmi_mean``: bits over the mean of H(c) and of the entropy of the predicted clusters. ``top1``: accuracy. ``ami``: adjusted
    mutual information of predicted and true clusters, the only score adjusted for chance. ``shuffled_bits``: the bound with concepts
    permuted over images (control).

    Args:
        features: features, with labels or ``truths``.
        concepts: concepts of all samples; by default all labels and attributes that both parts have.
        clusters: number of clusters.
        seed: seed of subsets, k-means and intervals.

    Raises:
        DataError: there are neither labels nor attributes.
        UsageError: fewer than two clusters.
    """
    quantised = _quantise(features, concepts, clusters, seed)
    prediction = quantised.predict()
    scores = prediction.scores(seed)
    scores["ami"] = prediction.agreement(seed)
    scores["shuffled_bits"] = quantised.predict(shuffled=seed).scores(seed)["bits"]
    protocol = (
        f"{quantised.count} clusters (k-means) of unit-length features of at most {ROWS} training samples, predicted from "
        f"{len(quantised.concepts.names)} concepts ({', '.join(dict.fromkeys(quantised.concepts.groups))}) by softmax(Wy + b), penalty chosen "
        f"on a fifth of the training part; entropy and cross-entropy of at most {ROWS} test samples; AMI is adjusted for chance, the others not"
    )
    return Scores(scores, protocol)


def reverse_by_clusters(
    features: Features, concepts: Concepts | None = None, *, counts: Sequence[int] = (8, 16, 32, 64, 128), seed: int = 0
) -> dict[int, Scores]:
    """``reverse`` for several numbers of clusters; bits grow with the number, normalised scores need not.

    Args:
        features: features, with labels or ``truths``.
        concepts: concepts of all samples; see ``reverse``.
        counts: numbers of clusters.
        seed: seed of subsets, k-means and intervals.

    Returns:
        Scores by number of clusters.
    """
    return {count: reverse(features, concepts, clusters=count, seed=seed) for count in counts}


def reverse_without(features: Features, concepts: Concepts | None = None, *, clusters: int = CLUSTERS, seed: int = 0) -> Scores:
    """Bits lost when a group of concepts (all hues, all textures, …) is left out, for each group; about 0 for redundant groups.

    Args:
        features: features, with labels or ``truths``.
        concepts: concepts of all samples; see ``reverse``.
        clusters: number of clusters.
        seed: seed of subsets, k-means and intervals.

    Raises:
        DataError: there are neither labels nor attributes.
        UsageError: fewer than two clusters.
    """
    quantised = _quantise(features, concepts, clusters, seed)
    groups = np.array(quantised.concepts.groups)
    full, lost = quantised.predict().log, {}
    for group in dict.fromkeys(quantised.concepts.groups):
        difference = full - quantised.predict(groups != group).log  # the entropy is the same in both bounds
        drawn = np.random.default_rng(seed).choice(difference, (DRAWS, len(difference))).mean(1)
        lost[group] = _about(float(difference.mean()), drawn)
    return Scores(lost, f"bits of {quantised.count} clusters that cannot be predicted without the group of concepts; test samples")
