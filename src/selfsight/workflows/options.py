"""Typed keywords of the public functions, for completion in editors."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from selfsight.core.progress import ProgressCallback
from selfsight.discover.dense.features import FeatureSpec

__all__ = ["DiscoverOptions", "LearnOptions", "MeasureOptions", "OpenOptions"]


class OpenOptions(TypedDict, total=False):
    """Keywords of ``open``; see ``data.opening.open_source``."""

    limit: int | None
    seed: int
    size: int | None
    cache: Path | None
    truth: str | Path | None
    where: str
    progress: Callable[[int, int], object] | None


class LearnOptions(TypedDict, total=False):
    """Keywords of ``learn``: the fields of ``TrainRequest`` except ``data``."""

    method: str
    backbone: str | None
    size: int | None
    batch: int | None
    epochs: float | None
    steps: int | None
    minutes: float | None
    seed: int
    limit: int | None
    init: str | None
    options: Mapping[str, Any] | None
    training: Mapping[str, Any] | None
    accumulate: int
    precision: str
    device: str
    workers: int
    compile: bool
    save_every: int


class MeasureOptions(TypedDict, total=False):
    """Further keywords of ``Run.measure``; see ``workflows.evaluate.run.evaluate_representation``."""

    truth: str | Path | None
    train_truth: str | Path | None
    seed: int
    layers: Sequence[str]
    others: Mapping[str, Any] | None
    progress: Callable[[str], None]


class DiscoverOptions(TypedDict, total=False):
    """Further keywords of ``Run.discover``; each discovery and method takes some of them."""

    floors: bool
    progress: ProgressCallback
    feature_spec: FeatureSpec | None
    refine: bool
    learn: bool
    seed: int
    rows: Any
    classes: int | None
    count: int | None
    parts: int
    within: str | None
    least: float
    alike: float
    localiser: str
    crops: bool
    segments: int
    adaptive: bool
    threshold: float
    apart: float
    seeds: int
    objects: int
    head: int | None
    mass: float
    published: bool
    part: float
    steps: int
    temperature: float
    weights: Any
    vectors: Any
    cache: Path | None
    banks: Path | None
