"""Object discovery, scored by CorLoc."""

from functools import partial

from selfsight.data.source import Source
from selfsight.discover.objects.object_regions import ObjectRegions, find_objects
from selfsight.measure.metrics.overlap import score_boxes
from selfsight.workflows.discover.discovery import Discovery, Judged

__all__ = ["BOXES"]


def _boxes(regions: ObjectRegions, source: Source) -> Judged:
    score = score_boxes(partial(regions.boxes, read=True), source)
    return {"CorLoc": score} if score else {}


BOXES = Discovery(find_objects, _boxes)
