"""A probe on every layer of a network."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from selfsight.bank.extract import extract_features, make_encoder
from selfsight.core.names import look_up
from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.core.representation import Representation
from selfsight.data.source import Source
from selfsight.measure.probes.linear import linear
from selfsight.measure.results import Features, Score, Scores

__all__ = ["LabelPair", "curve", "layers", "layers_of"]

Probe = Callable[[Features], Scores]


@dataclass(frozen=True)
class LabelPair:
    """Labels of a training and a test part.

    Attributes:
        train: labels (N,) of the training part; -1: unknown.
        test: labels (M,) of the test part; -1: unknown.
        classes: names of the classes.
    """

    train: Int[np.ndarray, " train"] | None = None
    test: Int[np.ndarray, " test"] | None = None
    classes: tuple[str, ...] = ()


def curve(
    train: Mapping[str, Float[np.ndarray, "train _"]],
    test: Mapping[str, Float[np.ndarray, "test _"]],
    labels: LabelPair,
    *,
    probe: Probe = linear,
    score: str = "top1",
    progress: ProgressCallback = no_progress,
) -> Scores:
    """Score of a probe at each layer, from features that were extracted before.

    Args:
        train: training features (N, D) by layer.
        test: test features (M, D) by layer.
        labels: labels of both parts.
        probe: function that fits and scores a probe.
        score: name of the probe's score.
        progress: called with the current step.

    Returns:
        One score per layer, in the order of ``train``.
    """
    values: dict[str, Score] = {}
    protocol = ""
    for layer, rows in train.items():
        progress(f"layer {layer}")
        scores = probe(Features(rows, test[layer], labels.train, labels.test, labels.classes))
        values[layer], protocol = scores.values[score], scores.protocol
    return Scores(
        values, f"{score} at each layer, features averaged over locations (or the class token if the network pools by it); {protocol}"
    )


def layers_of(phi: Representation, names: Sequence[str] = ()) -> tuple[str, ...]:
    """Layers of the given names; by default all that the backbone lists.

    Args:
        phi: the representation.
        names: names of layers.

    Raises:
        UsageError: there is no layer of a name.
    """
    return tuple(look_up("layer", name, phi.layers) for name in names) or phi.layers


def layers(
    phi: Representation,
    train: Source,
    test: Source,
    labels: LabelPair,
    *,
    names: Sequence[str] = (),
    probe: Probe = linear,
    bf16: bool = False,
    progress: ProgressCallback = no_progress,
) -> Scores:
    """Accuracy of a probe at each layer (Alain & Bengio 2016, arXiv:1610.01644; Zhang et al. 2016, arXiv:1603.08511).

    Args:
        phi: the representation.
        train: images that probes are fitted on.
        test: images that probes are scored on.
        labels: labels of both parts.
        names: names of layers, shallow to deep; by default all that the backbone lists.
        probe: ``linear`` or ``knn``; the penalty of ``linear`` is chosen separately at each layer.
        bf16: compute in bfloat16 where the network supports it.
        progress: called with the current step.

    Raises:
        UsageError: there is no layer of a name.
    """
    chosen = layers_of(phi, names)
    encode = make_encoder(phi, chosen, bf16=bf16)

    def inner(images: torch.Tensor) -> dict[str, torch.Tensor]:
        features = encode(images)
        return {name: features[name] for name in chosen}

    train_features, test_features = (extract_features(part, inner, size=phi.size, device=phi.device) for part in (train, test))
    return curve(train_features, test_features, labels, probe=probe, progress=progress)
