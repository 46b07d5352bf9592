"""Eigenvectors of images' locations: selfsight in batches, SciPy image by image, on the same matrices in one run.

    python benchmarks/discover.py                                    # an untrained network, rendered scenes
    python benchmarks/discover.py --run RUN --data DATA

The reference is the call of published code: ``eigsh(D - W, k=6, sigma=0, which="LM", M=D)`` on dense float64 matrices. Limit: a block
method reads the matrix once per pass (4 N² bytes), with at least one pass; the ratio to the time of as many matrix products is the
overhead. Agreement: the largest principal angle between both spaces of ``D^½ v``.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.linalg import subspace_angles
from scipy.sparse.linalg import eigsh

from selfsight.api import Run
from selfsight.core.origin import origin
from selfsight.data.opening import open_source
from selfsight.discover.dense.affinity import Graph, affinity_graph
from selfsight.discover.dense.features import FeatureSpec, iter_feature_batches
from selfsight.discover.dense.spectral import spectrum

RESULTS = Path(__file__).parent / "results" / "discover.json"
VECTORS = 5


def weights(run: Run, data: str, side: int, count: int) -> torch.Tensor:
    """Positive cosines of the ``side`` x ``side`` locations of some images."""
    pixels = side * run.phi.backbone.stride
    source = open_source(data, size=pixels)
    rows = np.arange(count)
    return torch.cat(
        [one.cosines.clamp(min=0) for one in iter_feature_batches(run.phi, source, FeatureSpec(size=pixels), rows=rows, batch=count)]
    )


def peer(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The smallest eigenvectors of one image as in published code, and its degrees."""
    degrees = matrix.sum(1)
    diagonal = np.diag(degrees)
    values, vectors = eigsh(diagonal - matrix, k=VECTORS + 1, sigma=0, which="LM", M=diagonal)
    return np.sqrt(degrees)[:, None] * vectors[:, values.argsort()], degrees


def seconds(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(matrices: torch.Tensor, rounds: int) -> dict[str, float]:
    """Milliseconds per image of both, measured alternately, the best of each; and the angle between their eigenspaces."""
    graph = affinity_graph(matrices)
    passes = [0]

    def counted(given: torch.Tensor) -> torch.Tensor:
        passes[0] += 1
        return graph.times(given)

    found = spectrum(Graph(counted, graph.degrees, graph.dense), VECTORS, solver="krylov")
    block = torch.randn(len(matrices), VECTORS + 3, matrices.shape[1])
    wide = matrices.double().numpy()
    times: dict[str, list[float]] = {"ours": [], "products": [], "scipy": []}
    for _ in range(rounds):
        times["ours"].append(seconds(lambda: spectrum(graph, VECTORS, solver="krylov")) / len(matrices))
        times["products"].append(seconds(lambda: [graph.times(block) for _ in range(passes[0])]) / len(matrices))
        times["scipy"].append(min(seconds(lambda row=row: peer(wide[row])) for row in range(min(len(wide), 3))))
    space = (found.vectors * found.degrees.sqrt()[:, None]).double().transpose(1, 2).numpy()
    angles = [float(subspace_angles(space[row], peer(wide[row])[0]).max()) for row in range(min(len(wide), 4))]
    best = {name: 1000 * min(values) for name, values in times.items()}
    return {
        **{f"{name}_ms": round(value, 2) for name, value in best.items()},
        "passes": passes[0],
        "times_scipy": round(best["scipy"] / best["ours"], 1),
        "of_limit": round(best["products"] / best["ours"], 2),
        "largest_angle": float(f"{max(angles):.1e}"),
    }


def main() -> None:
    """Compare at 30 x 30 and 60 x 60 locations and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", default="untrained:resnet_tiny")
    parser.add_argument("--data", default="world:shapes?count=16")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    run = Run(options.run, size=32, device="cpu")
    about = origin({"device": "cpu", "precision": "fp32", "compile": False, "threads": torch.get_num_threads()})
    result: dict[str, object] = {"run": options.run, "data": options.data, "origin": about}
    for side, count in ((30, 16), (60, 4)):
        result[f"{side} x {side}"] = compare(weights(run, options.data, side, count), options.rounds)
        print(side, result[f"{side} x {side}"])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
