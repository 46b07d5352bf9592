"""Typed keywords of the public functions, for completion in editors."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict

from selfsight.core.progress import ProgressCallback
from selfsight.discover.dense.features import FeatureSpec
from selfsight.discover.options import GrouperOptions, PartOptions, SegmenterOptions
from selfsight.explain.inversion.descent import Prior
from selfsight.explain.synthesis.activation import Parameterisation

__all__ = [
    "CompareOptions",
    "CompareUnitsOptions",
    "ComparisonOptions",
    "DiagnoseOptions",
    "DiscoverOptions",
    "EvaluateOptions",
    "ExploreOptions",
    "InvertOptions",
    "InverterOptions",
    "LearnOptions",
    "MaximiseOptions",
    "MeasureOptions",
    "OpenOptions",
    "RepeatOptions",
    "SearchOptions",
]


class OpenOptions(TypedDict, total=False):
    """Keywords of ``open``; see ``data.opening.open_source``."""

    limit: int | None
    seed: int
    size: int | None
    cache: Path | None
    truth: str | Path | None
    where: str
    replace_unreadable: bool
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


class SearchOptions(SegmenterOptions, PartOptions, GrouperOptions, total=False):
    """Options of a search; each discovery and method takes some of them."""

    feature_spec: FeatureSpec | None
    refine: bool
    learn: bool
    seed: int
    rows: Any
    classes: int | None
    count: int | None
    parts: int
    foreground: str | None
    min_confidence: float
    duplicate_threshold: float
    vectors: Any
    cache: Path | None
    banks: Path | None


class DiscoverOptions(SearchOptions, total=False):
    """Further keywords of ``Run.discover``."""

    baselines: bool
    progress: ProgressCallback


class ProbeOptions(TypedDict, total=False):
    """What is measured."""

    probes: Sequence[str] | None
    baselines: bool
    layers: Sequence[str]


class EvaluateOptions(ProbeOptions, total=False):
    """Further keywords of ``evaluate_representation``; see ``workflows.evaluate.probes.evaluate``."""

    others: Mapping[str, Any] | None
    progress: Callable[[str], None]


class ComparisonOptions(ProbeOptions, total=False):
    """Further keywords of ``compare_representations``; see ``workflows.evaluate.run.evaluate_representation``."""

    truth: str | Path | None
    train_truth: str | Path | None
    limit: int | None
    seed: int


class RepeatOptions(LearnOptions, total=False):
    """Keywords of ``repeat``: the fields of ``TrainRequest``."""

    data: str


class CompareOptions(MeasureOptions, total=False):
    """Further keywords of ``compare``: those of ``Run`` and ``Run.measure``."""

    size: int | None
    device: str
    probes: Sequence[str] | None
    baselines: bool
    limit: int | None


class DiagnoseOptions(TypedDict, total=False):
    """Further keywords of ``Run.diagnose``; see ``explain.checks.diagnosis.diagnose``."""

    areas: Sequence[float]
    required_fraction: float
    steps: int
    substrate: Literal["blur", "mean"]


class InverterOptions(TypedDict, total=False):
    """Further keywords of ``Run.inverter``; see ``explain.inversion.inverter.learn_inverter``."""

    steps: int
    batch: int
    rate: float
    feature_weight: float
    adversarial_weight: float
    width: int
    seed: int


class InvertOptions(TypedDict, total=False):
    """Further keywords of ``Run.invert``: those of ``invert``, ``invert_with_deep_prior`` or ``learn_inverter``, by ``method``."""

    weight: float
    prior: Prior
    steps: int | tuple[int, int]
    restarts: int
    keep: Any
    batch: int
    rate: float
    feature_weight: float
    adversarial_weight: float
    width: int
    seed: int


class MaximiseOptions(TypedDict, total=False):
    """Further keywords of ``Run.maximise``; see ``explain.gallery.maximisers``."""

    count: int
    steps: int
    rate: float
    diversity: float
    seed: int


class CompareUnitsOptions(TypedDict, total=False):
    """Further keywords of ``Run.compare``; see ``explain.synthesis.comparison.compare_units``."""

    depth: float
    parameterisation: Parameterisation
    steps: int
    seed: int


class ExploreOptions(TypedDict, total=False):
    """Further keywords of ``Run.explore``; see ``explorer.prepare.build.find_or_prepare`` and ``explorer.server.opening.serve``."""

    limit: int | None
    maps: Sequence[str] | None
    untrained: bool
    rebuild: bool
    port: int
    hosts: Iterable[str]
    browser: bool
    work: bool
    frames: bool | None
