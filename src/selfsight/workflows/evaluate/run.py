"""Measuring runs and models: scores beside their floors, kept in files, of one network or of several beside each other."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from selfsight.core.errors import UsageError
from selfsight.core.progress import no_progress
from selfsight.core.representation import Representation
from selfsight.data.opening import open_source
from selfsight.data.pack import cache_folder
from selfsight.data.source import Source
from selfsight.engine.hardware import fast_bf16
from selfsight.render.charts import draw_network_measure
from selfsight.workflows.evaluate.analyses.table import ANALYSES
from selfsight.workflows.evaluate.comparison import Comparison
from selfsight.workflows.evaluate.probes import EvaluationResult, evaluate

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
    **more: Any,
) -> EvaluationResult:
    """Scores of a representation beside their floors, kept under ``path/measures``.

    ``scores.json`` holds those of probes; each measure of the network has a ``NAME.json`` and a ``NAME.png`` of its own.

    Args:
        phi: the representation.
        path: the run's folder.
        train, test: sources, or names of data sets.
        truth: what is known of the test pictures beside their labels, such as a folder of masks.
        train_truth: the same of the training pictures.
        limit: at most so many pictures of ``train``, drawn by the seed; of ``test`` all are used.
        seed: of that draw.
        more: passed on to ``evaluate``.
    """
    fitted = open_source(train, limit=limit, seed=seed, size=phi.size, truth=train_truth) if isinstance(train, str | Path) else train
    judged = open_source(test, size=phi.size, truth=truth) if isinstance(test, str | Path) else test
    found = evaluate(phi, fitted, judged, bf16=fast_bf16(phi.device), banks=path / "banks", cache=cache_folder() / "floors", **more)
    _save(found, path / "measures", phi.name, fitted, judged)
    return found


def _save(found: EvaluationResult, folder: Path, name: str, train: Source, test: Source) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for probe, readout in found.readouts.items():
        readout.save(folder / probe)
    about = {"train": train.spec, "train_images": len(train), "test": test.spec, "test_images": len(test)}
    if probes := [probe for probe in found.scores if probe not in ANALYSES]:
        (folder / "scores.json").write_text(json.dumps(about | found.only(probes).to_json(), indent=1) + "\n")
    for probe in set(found.scores) & set(ANALYSES):
        plain = found.only([probe]).to_json()
        (folder / f"{probe}.json").write_text(json.dumps(about | plain, indent=1) + "\n")
        floor = plain["floors"].get("untrained", {}).get(probe, {})
        (folder / f"{probe}.png").write_bytes(
            draw_network_measure(ANALYSES.load(probe).draw, plain["scores"][probe], floor, f"{probe}: {name}")
        )


def compare_representations(
    networks: Mapping[str, tuple[Representation, Path]],
    *,
    progress: Callable[[str], None] = no_progress,
    **how: Any,
) -> Comparison:
    """Several networks by the same measures; those that join networks compare each with all others.

    Args:
        networks: representations and their folders, by name.
        progress: called with what is being done.
        how: passed on to ``evaluate_representation``.

    Raises:
        UsageError: there are fewer than two.
    """
    if len(networks) < 2:
        raise UsageError("A comparison needs two networks or more.", "Name another run, or measure the one.")
    found = {}
    for name, (phi, path) in networks.items():
        others = {other: each for other, (each, _) in networks.items() if other != name}
        found[name] = evaluate_representation(
            phi, path, others=others, progress=lambda words, name=name: progress(f"{name}: {words}"), **how
        )
    about = {
        "train": _named(how["train"]),
        "test": _named(how["test"]),
        "networks": {name: {"backbone": phi.spec, "size": phi.size, "dim": phi.backbone.dim} for name, (phi, _) in networks.items()},
    }
    return Comparison(found, about)


def _named(data: Source | str | Path) -> str:
    return str(data) if isinstance(data, str | Path) else data.spec
