"""The typed keywords of the public functions are those of the functions that receive them."""

import inspect
from dataclasses import fields

import pytest

import selfsight
from selfsight.data.opening import open_source
from selfsight.discover.images.clusters import find_clusters
from selfsight.discover.images.duplicates import find_duplicates
from selfsight.discover.objects.object_regions import find_objects
from selfsight.discover.objects.table import LOCALISERS
from selfsight.discover.parts.parts import find_parts
from selfsight.discover.segments.segment import segment_images
from selfsight.discover.segments.table import SEGMENTERS
from selfsight.workflows.evaluate.probes import evaluate
from selfsight.workflows.evaluate.run import evaluate_representation
from selfsight.workflows.options import DiscoverOptions, LearnOptions, MeasureOptions, OpenOptions
from selfsight.workflows.train.request import TrainRequest


def keywords(function) -> set[str]:
    parameters = inspect.signature(function).parameters.values()
    return {one.name for one in parameters if one.kind == one.KEYWORD_ONLY}


def test_learn_takes_every_field_of_a_request():
    assert LearnOptions.__annotations__.keys() == {item.name for item in fields(TrainRequest)} - {"data"}


def test_open_takes_every_option_of_a_source():
    assert OpenOptions.__annotations__.keys() == keywords(open_source)


def test_measure_takes_every_option_of_an_evaluation():
    own = keywords(selfsight.Run.measure)
    received = keywords(evaluate_representation) | keywords(evaluate)
    chosen_for_you = {"bf16", "banks", "cache"}
    assert MeasureOptions.__annotations__.keys() == received - own - chosen_for_you


@pytest.mark.parametrize("find", [find_objects, segment_images, find_parts, find_clusters, find_duplicates])
def test_discover_takes_every_option_of_a_discovery(find):
    assert keywords(find) <= DiscoverOptions.__annotations__.keys()


@pytest.mark.parametrize("registry", [LOCALISERS, SEGMENTERS], ids=["localisers", "segmenters"])
def test_discover_takes_every_option_of_a_method(registry):
    for name in registry:
        assert keywords(registry.load(name)) <= DiscoverOptions.__annotations__.keys(), name
