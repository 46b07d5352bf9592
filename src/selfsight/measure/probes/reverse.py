"""Quantised reverse probing: what is known of a picture says in which cluster of the features it lies (Laina et al. 2022, arXiv:2209.03268).

Features are quantised to clusters c by k-means; a linear reader ``q(c | y) = softmax(W y + b)`` of concepts y is fitted to the training
part. With CE the cross-entropy of q on the test part and H the entropy of its clusters, both in bits::

    I(c; y) >= H(c) - CE

for no reader does better than the true conditional. Linear probing asks the other way round and one concept at a time; this sees
whether concepts are enough, and combinations (a red apple) that no single concept tells.
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
"""Training and test samples at most, each."""
CLUSTERS = 32
VALUES = 16
"""Different values of a numeric attribute up to which each is a concept; of more, its quarters are."""
PENALTIES = tuple(10.0**power for power in range(1, -7, -1))
DRAWS = 200


@dataclass(frozen=True)
class Concepts:
    """What is known of samples beside their features, one column a concept: 1 where it is there, or how much of it.

    Attributes:
        train, test: of both parts.
        names: of the columns.
        groups: what each column belongs to, such as ``hue`` for the four quarters of a hue.
    """

    train: Float[np.ndarray, "train concept"]
    test: Float[np.ndarray, "test concept"]
    names: tuple[str, ...]
    groups: tuple[str, ...]


def concepts_of(train: Truth, test: Truth) -> Concepts | None:
    """Concepts from labels and attributes that are known of both parts; ``None`` where nothing is.

    A label, a text, a truth value and a number of at most 16 different values become one column a value; other numbers are cut at
    the quartiles of the training part. What is unknown is zero in every column. Columns that only one value has, texts of more than
    64 values (names, not concepts) and attributes that rename one that is already there are left out.
    """
    found: dict[str, tuple[np.ndarray, np.ndarray, tuple[str, ...]]] = {}
    if train.labels is not None and test.labels is not None:
        count = max(int(train.labels.max(initial=-1)) + 1, len(train.classes))
        found["label"] = (train.labels, test.labels, train.classes or tuple(str(label) for label in range(count)))
    shared = [name for name in train.attributes if name in test.attributes]
    for name in sorted(shared, key=lambda name: train.attributes[name].dtype != object):  # words before their numbers
        coded = _kinds(train.attributes[name], test.attributes[name])
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


def _kinds(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """A code for each sample of both parts, -1 where unknown, and the names of the codes."""
    if train.dtype == object or train.dtype.kind == "U":
        values = sorted({str(value) for value in train if value})
        number = {value: place for place, value in enumerate(values)} if len(values) <= 4 * VALUES else {}
        fitted, judged = (np.array([number.get(str(value), -1) for value in part], dtype=np.int64) for part in (train, test))
        return fitted, judged, tuple(number)
    left, right = train.astype(float), test.astype(float)
    values = np.unique(left[np.isfinite(left)])
    if len(values) <= VALUES:
        fitted, judged = (np.where(np.isin(part, values), np.searchsorted(values, part), -1) for part in (left, right))
        return fitted, judged, tuple(f"{value:g}" for value in values)
    edges = np.quantile(left[np.isfinite(left)], (0.25, 0.5, 0.75))
    fitted, judged = (np.where(np.isfinite(part), np.searchsorted(edges, part), -1) for part in (left, right))
    return fitted, judged, tuple(f"quarter {number}" for number in range(1, 5))


def _renames(left: np.ndarray, right: np.ndarray) -> bool:
    """Both tell the same samples apart."""
    pairs = len(np.unique(np.stack([left, right]), axis=1).T)
    return pairs == len(np.unique(left)) == len(np.unique(right))


def _one_hot(codes: Int[np.ndarray, " sample"], count: int) -> Float[np.ndarray, "sample concept"]:
    return (codes[:, None] == np.arange(count)).astype(np.float32)


@dataclass(frozen=True)
class _Quantised:
    """Concepts of both parts, and the clusters in which their features lie."""

    concepts: Concepts
    train: Int[np.ndarray, " train"]
    test: Int[np.ndarray, " test"]
    count: int

    def told(self, keep: Bool[np.ndarray, " concept"] | None = None, *, shuffled: int | None = None) -> "_Told":
        """What a reader of concepts (of some columns; of other samples' rows, as a control) says of the test part."""
        fitted, judged = self.concepts.train, self.concepts.test
        if keep is not None:
            fitted, judged = fitted[:, keep], judged[:, keep]
        if shuffled is not None:
            generator = np.random.default_rng(shuffled)
            fitted, judged = generator.permutation(fitted), generator.permutation(judged)
        probe = _reader(fitted, self.train, self.count)
        log = _log_chances(probe, judged)
        return _Told(self.test, log.argmax(1), log[np.arange(len(log)), self.test], self.count)


@dataclass(frozen=True)
class _Told:
    """The clusters of test samples, those guessed from concepts, and the logarithm (base 2) of the chance that was given to the true one."""

    truth: Int[np.ndarray, " sample"]
    guess: Int[np.ndarray, " sample"]
    log: Float[np.ndarray, " sample"]
    count: int

    def values(self, weights: Float[np.ndarray, "draw sample"]) -> dict[str, np.ndarray]:
        """Every score, for each weighting of the samples (rows that sum to one)."""
        entropy, guessed = (_entropy(weights @ np.eye(self.count)[codes]) for codes in (self.truth, self.guess))
        bits = entropy + weights @ self.log
        half = (entropy + guessed) / 2
        return {
            "bits": bits,
            "nmi": np.divide(bits, entropy, out=np.zeros_like(bits), where=entropy > 0),
            "nmi_mean": np.divide(bits, half, out=np.zeros_like(bits), where=half > 0),
            "top1": weights @ (self.truth == self.guess),
        }

    def scores(self, seed: int = 0) -> dict[str, Score]:
        """Every score with its bootstrap interval over test samples."""
        count = len(self.truth)
        value = self.values(np.full((1, count), 1 / count))
        drawn = self.values(np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), DRAWS) / count)
        return {name: _about(float(value[name][0]), drawn[name]) for name in value}

    def agreement(self, seed: int = 0, draws: int = 20) -> Score:
        """Mutual information of guessed and true clusters, adjusted for chance."""
        table, total = contingency(self.guess, self.truth), len(self.truth)
        drawn = np.random.default_rng(seed).multinomial(total, table.ravel() / total, draws).reshape(draws, *table.shape)
        return _about(adjusted_mutual_information(table), np.array([adjusted_mutual_information(one) for one in drawn]))


def _about(value: float, drawn: Float[np.ndarray, " draw"]) -> Score:
    """The spread of draws about their own mean, put about the value: entropies of samples drawn twice are too small."""
    low, high = np.quantile(drawn, (0.025, 0.975)) - drawn.mean()
    return Score(value, value + float(low), value + float(high))


def _entropy(shares: Float[np.ndarray, "draw cluster"]) -> Float[np.ndarray, " draw"]:
    """In bits."""
    return -(shares * np.log2(np.where(shares > 0, shares, 1.0))).sum(1)


def _reader(concepts: Float[np.ndarray, "sample concept"], codes: Int[np.ndarray, " sample"], count: int) -> Probe:
    """``softmax(W y + b)``; its penalty has the least cross-entropy on a fifth of the training part, strong penalties being tried first.

    The strongest leaves the clusters' shares alone: concepts that tell nothing then cost next to nothing.
    """
    held = held_out(codes, 0)
    best, chosen, probe, worse = np.inf, PENALTIES[0], None, 0
    for penalty in PENALTIES:
        probe = fit_probe(concepts[~held], codes[~held], count, penalty, standardise=False, rounds=60, start=probe)
        loss = -float(_log_chances(probe, concepts[held])[np.arange(int(held.sum())), codes[held]].mean())
        worse = 0 if loss < best else worse + 1
        if loss < best:
            best, chosen = loss, penalty
        if worse == 2:
            break
    return fit_probe(concepts, codes, count, chosen, standardise=False, rounds=200)


def _log_chances(probe: Probe, concepts: Float[np.ndarray, "sample concept"]) -> Float[np.ndarray, "sample cluster"]:
    """``log2 q(c | y)``."""
    logits = torch.from_numpy(concepts).double() @ probe.weight.double().T + probe.bias.double()
    return (logits.log_softmax(1) / np.log(2)).numpy()


def _quantise(features: Features, concepts: Concepts | None, clusters: int, seed: int) -> _Quantised:
    """k-means of unit-length training features; test samples by nearest centroid.

    Raises:
        DataError: neither labels nor attributes are known.
        UsageError: fewer than two clusters.
    """
    if clusters < 2:
        raise UsageError(f"{clusters} clusters tell nothing apart.", "Ask for two or more.")
    generator = np.random.default_rng(seed)
    fitted, judged = (np.sort(generator.permutation(len(part))[:ROWS]) for part in (features.train, features.test))
    known, truth = features.truths or (
        Truth(features.train_labels, features.classes),
        Truth(features.test_labels, features.classes),
    )
    if concepts is None:
        concepts = concepts_of(known.take(fitted), truth.take(judged))
    else:
        concepts = replace(concepts, train=concepts.train[fitted], test=concepts.test[judged])
    if concepts is None:
        raise DataError("Reverse probing needs labels or attributes, and the data have none.", "Give labelled --train and --test.")
    rows, asked = (
        normalize(torch.from_numpy(np.array(part[chosen], dtype=np.float32)))
        for part, chosen in ((features.train, fitted), (features.test, judged))
    )
    found = kmeans(rows, min(clusters, len(rows)), seed=seed)
    return _Quantised(concepts, found.labels.numpy(), torch.cdist(asked, found.centroids).argmin(1).numpy(), len(found.centroids))


def reverse(features: Features, concepts: Concepts | None = None, *, clusters: int = CLUSTERS, seed: int = 0) -> Scores:
    """How much of the clusters of a representation the concepts tell, by a linear reader, on the test part.

    Concepts are those given, or all labels and attributes that are known.

    ``bits``: the bound ``H(c) - CE``, below 0 where the reader is worse than the test part's own shares. ``nmi``: bits over H(c).
    ``nmi_mean``: bits over the mean of H(c) and of the entropy of the clusters guessed. ``top1``: samples whose cluster is guessed.
    ``ami``: agreement of guessed and true clusters, less what two labelings with these sizes share by chance, over the same of their
    mean entropy; it is the only one adjusted for chance. ``shuffled_bits``: the bound where every picture has another one's concepts.
    """
    quantised = _quantise(features, concepts, clusters, seed)
    told = quantised.told()
    scores = told.scores(seed)
    scores["ami"] = told.agreement(seed)
    scores["shuffled_bits"] = quantised.told(shuffled=seed).scores(seed)["bits"]
    words = (
        f"{quantised.count} clusters (k-means) of unit-length features of at most {ROWS} training samples, told from "
        f"{len(quantised.concepts.names)} concepts ({', '.join(dict.fromkeys(quantised.concepts.groups))}) by softmax(Wy + b), penalty chosen "
        f"on a fifth of the training part; entropy and cross-entropy of at most {ROWS} test samples; AMI is adjusted for chance, the others not"
    )
    return Scores(scores, words)


def reverse_by_clusters(
    features: Features, concepts: Concepts | None = None, *, counts: Sequence[int] = (8, 16, 32, 64, 128), seed: int = 0
) -> dict[int, Scores]:
    """``reverse`` for several numbers of clusters: bits grow with their number, normalised scores need not."""
    return {count: reverse(features, concepts, clusters=count, seed=seed) for count in counts}


def reverse_without(features: Features, concepts: Concepts | None = None, *, clusters: int = CLUSTERS, seed: int = 0) -> Scores:
    """The bits that are lost when a group of concepts (all hues, all textures, …) is left out, for each group; about 0 if others tell the same."""
    quantised = _quantise(features, concepts, clusters, seed)
    groups = np.array(quantised.concepts.groups)
    whole, lost = quantised.told().log, {}
    for group in dict.fromkeys(quantised.concepts.groups):
        less = whole - quantised.told(groups != group).log  # the entropy is the same in both bounds
        drawn = np.random.default_rng(seed).choice(less, (DRAWS, len(less))).mean(1)
        lost[group] = _about(float(less.mean()), drawn)
    return Scores(lost, f"bits of {quantised.count} clusters that a reader without the group of concepts does not tell; test samples")
