"""Evaluation of runs and models with baselines, saved to files; one network, or several in comparison."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Unpack

from selfsight.core.cache import cache_folder, write_atomically
from selfsight.core.errors import UsageError
from selfsight.core.json_text import json_text
from selfsight.core.progress import no_progress
from selfsight.core.representation import Representation
from selfsight.core.results import results_folder
from selfsight.data.opening import open_source
from selfsight.data.source import Source
from selfsight.engine.hardware import fast_bf16
from selfsight.render.charts import draw_network_measure
from selfsight.workflows.evaluate.analyses.table import ANALYSES
from selfsight.workflows.evaluate.comparison import Comparison
from selfsight.workflows.evaluate.probes import EvaluationResult, evaluate
from selfsight.workflows.options import ComparisonOptions, EvaluateOptions

__all__ = ["compare_representations", "evaluate_representation"]


def evaluate_representation(
    phi: Representation,
    path: Path,
    *,
    train: Source | str | Path,
    test: Source | str | Path,
    truth: str | Path | None = None,
    train_truth: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    **more: Unpack[EvaluateOptions],
) -> EvaluationResult:
    """Scores of a representation with baselines, saved under ``path/measures``.

    ``scores.json`` holds those of probes; each analysis has its own ``NAME.json`` and ``NAME.png``.

    Args:
        phi: the representation.
        path: the run's folder.
        train: source on which probes are fitted, or name of a data set.
        test: source on which they are scored, or name of a data set.
        truth: annotations of the test images besides labels, such as a folder of masks.
        train_truth: the same for the training images.
        limit: use a random subset of ``train`` of this size; ``test`` is used completely.
        seed: seed of that subset.
        more: further arguments of ``evaluate``.
    """
    train_source = open_source(train, limit=limit, seed=seed, size=phi.size, truth=train_truth) if isinstance(train, str | Path) else train
    test_source = open_source(test, size=phi.size, truth=truth) if isinstance(test, str | Path) else test
    result = evaluate(
        phi,
        train_source,
        test_source,
        bf16=fast_bf16(phi.device),
        banks=results_folder(path, "banks"),
        cache=cache_folder() / "floors",
        **more,
    )
    _save(result, results_folder(path, "measures"), phi.name, train_source, test_source)
    return result


def _save(result: EvaluationResult, folder: Path, name: str, train: Source, test: Source) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for probe, readout in result.readouts.items():
        readout.save(folder / probe)
    data = {"train": train.spec, "train_images": len(train), "test": test.spec, "test_images": len(test)}
    if probes := [probe for probe in result.scores if probe not in ANALYSES]:
        write_atomically(folder / "scores.json", json_text(data | result.only(probes).to_json(), indent=1) + "\n")
    for probe in set(result.scores) & set(ANALYSES):
        content = result.only([probe]).to_json()
        write_atomically(folder / f"{probe}.json", json_text(data | content, indent=1) + "\n")
        baseline = content["floors"].get("untrained", {}).get(probe, {})
        drawn = draw_network_measure(ANALYSES.load(probe).draw, content["scores"][probe], baseline, f"{probe}: {name}")
        write_atomically(folder / f"{probe}.png", drawn)


def compare_representations(
    networks: Mapping[str, tuple[Representation, Path]],
    *,
    train: Source | str | Path,
    test: Source | str | Path,
    progress: Callable[[str], None] = no_progress,
    **options: Unpack[ComparisonOptions],
) -> Comparison:
    """Evaluate several networks in the same way; analyses of pairs compare each network with all others.

    Args:
        networks: representations and their folders, by name.
        train: source on which probes are fitted, or name of a data set.
        test: source on which they are scored, or name of a data set.
        progress: called with a line per step.
        options: further arguments of ``evaluate_representation``.

    Raises:
        UsageError: there are fewer than two networks.
    """
    if len(networks) < 2:
        raise UsageError("A comparison needs at least two networks.", "Name another run, or measure a single one.")
    results = {}
    for name, (phi, path) in networks.items():
        others = {other: each for other, (each, _) in networks.items() if other != name}
        results[name] = evaluate_representation(
            phi, path, train=train, test=test, others=others, progress=lambda words, name=name: progress(f"{name}: {words}"), **options
        )
    about = {
        "train": _name(train),
        "test": _name(test),
        "networks": {name: {"backbone": phi.spec, "size": phi.size, "dim": phi.backbone.dim} for name, (phi, _) in networks.items()},
    }
    return Comparison(results, about)


def _name(data: Source | str | Path) -> str:
    return str(data) if isinstance(data, str | Path) else data.spec
