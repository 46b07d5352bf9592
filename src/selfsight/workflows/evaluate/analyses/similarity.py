"""Similarity of layers and networks."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from selfsight.bank.extract import extract_features, make_encoder
from selfsight.bank.store import OUTPUT
from selfsight.core.representation import Representation
from selfsight.data.source import Subset
from selfsight.measure.analysis.inputs import AnalysisInput, evenly_spaced_rows
from selfsight.measure.analysis.similarity import similarity_table
from selfsight.measure.results import Score, Scores
from selfsight.render.charts import draw_similarity
from selfsight.workflows.evaluate.analyses.analysis import Analysis

__all__ = ["SIMILARITY"]

HALVES = 10
"""Random halves from which intervals are estimated."""


def _similarity(phi: Representation, asked: AnalysisInput) -> Scores:
    """CKA of every two layers, and of the outputs of all layers with those of other networks."""
    rows = evenly_spaced_rows(asked.test, 1000)
    source, own = Subset(asked.test, rows), asked.layers or phi.layers
    said: dict[str, np.ndarray] = {}
    for name, network in {"": phi, **asked.others}.items():
        asked.progress(f"layers of {name or 'the network'}")
        chosen = own if not name else network.layers
        found = extract_features(source, make_encoder(network, chosen), size=network.size, device=network.device)
        said |= {f"{name}/{layer}" if name else layer: found[layer] for layer in (*chosen, OUTPUT)}
    inside = (*own, OUTPUT)
    pairs = [pair for pair in combinations(said, 2) if pair[0] in inside]
    whole, dice = similarity_table(list(said.values())), np.random.default_rng(0)
    places = {name: place for place, name in enumerate(said)}
    halves = [dice.permutation(len(rows))[: len(rows) // 2] for _ in range(HALVES)]
    tables = np.stack([similarity_table([each[half] for each in said.values()]) for half in halves])
    values = {}
    for left, right in pairs:
        value, spread = whole[places[left], places[right]], tables[:, places[left], places[right]].std(ddof=1)
        values[f"{left}/{right}"] = Score(float(value), float(value - 1.96 * spread), float(value + 1.96 * spread))
    words = (
        f"linear CKA, estimated without bias, of {len(rows)} test pictures' features (averaged over places) at every two layers; "
        f"intervals from the spread of {HALVES} random halves"
    )
    return Scores(values, words)


def _outputs(names: Sequence[str]) -> list[str]:
    """The likeness of a network's output to that of others."""
    return [name for name in names if name.startswith(f"{OUTPUT}/") and name.endswith(f"/{OUTPUT}")]


SIMILARITY = Analysis(_similarity, _outputs, draw_similarity)
