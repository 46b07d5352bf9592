"""A probe at every layer: where in a network what is asked for can be read."""

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
    """The labels of a training and a test part (-1: unknown), and the names of the classes."""

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
    """One score of a probe at each layer of the training part's features, in their order; from banks as from networks."""
    values: dict[str, Score] = {}
    words = ""
    for layer, rows in train.items():
        progress(f"layer {layer}")
        found = probe(Features(rows, test[layer], labels.train, labels.test, labels.classes))
        values[layer], words = found.values[score], found.protocol
    return Scores(values, f"{score} at each layer, features averaged over places (the class token where the network pools by it); {words}")


def layers_of(phi: Representation, names: Sequence[str] = ()) -> tuple[str, ...]:
    """Names of layers, all that are worth looking at by default.

    Raises:
        UsageError: there is no such layer.
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
    """The share of test samples that a probe of each layer gets right (Alain & Bengio 2016, arXiv:1610.01644; Zhang et al. 2016, arXiv:1603.08511).

    Args:
        phi: the representation.
        train, test: what probes are fitted on, and what they are scored on.
        labels: of both.
        names: of layers, shallow to deep; all that are worth looking at by default.
        probe: what is fitted, ``linear`` or ``knn``; its penalty is chosen anew at each layer.
        bf16: compute in bfloat16 where the network allows.
        progress: called with what is being done.
    """
    chosen = layers_of(phi, names)
    encode = make_encoder(phi, chosen, bf16=bf16)

    def inner(pictures: torch.Tensor) -> dict[str, torch.Tensor]:
        found = encode(pictures)
        return {name: found[name] for name in chosen}

    fitted, judged = (extract_features(part, inner, size=phi.size, device=phi.device) for part in (train, test))
    return curve(fitted, judged, labels, probe=probe, progress=progress)
