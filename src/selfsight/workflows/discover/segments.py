"""Segmentation of a data set and object parts, scored by overlap with annotated masks or by keypoints."""

from typing import Any

import numpy as np

from selfsight.core.representation import Representation
from selfsight.data.source import Source
from selfsight.discover.parts.parts import find_parts
from selfsight.discover.segments.maps import SegmentationResult
from selfsight.discover.segments.segment import segment_images
from selfsight.measure.metrics.overlap import score_segments
from selfsight.measure.metrics.parts import score_parts
from selfsight.workflows.discover.discovery import Discovery, Judged

__all__ = ["PARTS", "SEGMENTS"]


def _segments(result: SegmentationResult, source: Source) -> Judged:
    score = score_segments(result.at, source, result.classes, result.read)
    return {"mean IoU": score} if score else {}


def _segmented(phi: Representation, source: Source, method: str, *, classes: int | None = None, **options: Any) -> SegmentationResult:
    classes = classes or len(source.truth(np.arange(1)).classes) or 10
    return segment_images(phi, source, method, classes=classes, **options)


def _parts(result: SegmentationResult, source: Source) -> Judged:
    scores = score_parts(result.at, source, result.classes, result.read)
    return {name.upper(): score for name, score in scores.items()} if scores else {}


SEGMENTS = Discovery(_segmented, _segments)
PARTS = Discovery(find_parts, _parts)
