"""Typed keywords of the methods of discoveries; each method takes some of its table's."""

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from selfsight.discover.parts.contrast import Weights

__all__ = ["GrouperOptions", "LocaliserOptions", "PartOptions", "SegmenterOptions"]


class LocaliserOptions(TypedDict, total=False):
    """Keywords of localisers; see ``discover.objects.localise``."""

    seeds: int
    threshold: float | None
    epsilon: float
    objects: int
    min_area: float
    head: int | None
    mass: float
    published: bool
    fraction: float


class SegmenterOptions(LocaliserOptions, total=False):
    """Keywords of segmenters; see ``discover.segments.segmenters``."""

    crops: bool
    localiser: str
    segments: int
    adaptive: bool


class PartOptions(TypedDict, total=False):
    """Keywords of part finders; see ``discover.parts``."""

    steps: int
    temperature: float
    weights: "Weights"


class GrouperOptions(TypedDict, total=False):
    """Keywords of methods that cluster images; see ``discover.images.grouping``."""

    restarts: int
    rounds: int
    sharpness: float
    wrong: float
    neighbours: int
    heads: int
    balance: float
    steps: int
    batch: int
    rate: float
