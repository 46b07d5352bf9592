"""CKA between layers and networks."""

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
"""Random halves of the images for intervals."""


def _similarity(phi: Representation, inputs: AnalysisInput) -> Scores:
    """CKA of every two layers, and of the outputs of all layers with those of other networks."""
    rows = evenly_spaced_rows(inputs.test, 1000)
    source, layers = Subset(inputs.test, rows), inputs.layers or phi.layers
    features: dict[str, np.ndarray] = {}
    for name, network in {"": phi, **inputs.others}.items():
        inputs.progress(f"layers of {name or 'the network'}")
        network_layers = layers if not name else network.layers
        found = extract_features(source, make_encoder(network, network_layers), size=network.size, device=network.device)
        features |= {f"{name}/{layer}" if name else layer: found[layer] for layer in (*network_layers, OUTPUT)}
    row_names = (*layers, OUTPUT)
    pairs = [pair for pair in combinations(features, 2) if pair[0] in row_names]
    cka, generator = similarity_table(list(features.values())), np.random.default_rng(0)
    index = {name: number for number, name in enumerate(features)}
    halves = [generator.permutation(len(rows))[: len(rows) // 2] for _ in range(HALVES)]
    tables = np.stack([similarity_table([each[half] for each in features.values()]) for half in halves])
    values = {}
    for left, right in pairs:
        score, spread = cka[index[left], index[right]], tables[:, index[left], index[right]].std(ddof=1)
        values[f"{left}/{right}"] = Score(float(score), float(score - 1.96 * spread), float(score + 1.96 * spread))
    protocol = (
        f"linear CKA, estimated without bias, of {len(rows)} test images' features (averaged over positions) for every pair of layers; "
        f"intervals from the spread of {HALVES} random halves"
    )
    return Scores(values, protocol)


def _outputs(names: Sequence[str]) -> list[str]:
    """Similarity of a network's output to that of others."""
    return [name for name in names if name.startswith(f"{OUTPUT}/") and name.endswith(f"/{OUTPUT}")]


SIMILARITY = Analysis(_similarity, _outputs, draw_similarity)
