"""The typed keywords of the public functions are those of the functions that receive them."""

import inspect
from dataclasses import fields

import pytest

import selfsight
import selfsight.api
from selfsight.data.opening import open_source
from selfsight.discover.images.clusters import find_clusters
from selfsight.discover.images.duplicates import find_duplicates
from selfsight.discover.objects.object_regions import find_objects
from selfsight.discover.objects.table import LOCALISERS
from selfsight.discover.parts.parts import find_parts
from selfsight.discover.segments.segment import segment_images
from selfsight.discover.segments.table import SEGMENTERS
from selfsight.explain.checks.diagnosis import diagnose
from selfsight.explain.gallery import maximisers
from selfsight.explain.inversion.descent import invert, invert_by_network
from selfsight.explain.inversion.inverter import learn_inverter
from selfsight.explain.synthesis.comparison import compare_units
from selfsight.explorer.prepare.build import find_or_prepare
from selfsight.explorer.server.opening import serve
from selfsight.workflows.evaluate.probes import evaluate
from selfsight.workflows.evaluate.run import evaluate_representation
from selfsight.workflows.options import (
    CompareOptions,
    CompareUnitsOptions,
    DiagnoseOptions,
    DiscoverOptions,
    ExploreOptions,
    InverterOptions,
    InvertOptions,
    LearnOptions,
    MaximiseOptions,
    MeasureOptions,
    OpenOptions,
    RepeatOptions,
)
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


def test_repeat_and_compare_take_what_learn_and_measure_take():
    assert RepeatOptions.__annotations__.keys() == {item.name for item in fields(TrainRequest)}
    own = keywords(selfsight.compare)
    run = set(inspect.signature(selfsight.Run.__init__).parameters) - {"self", "spec"}
    assert CompareOptions.__annotations__.keys() == (keywords(selfsight.Run.measure) - own) | MeasureOptions.__annotations__.keys() | run


@pytest.mark.parametrize(
    ("options", "functions", "taken"),
    [
        (DiagnoseOptions, [diagnose], {"objects", "names"}),
        (InverterOptions, [learn_inverter], {"progress"}),
        (InvertOptions, [invert, invert_by_network, learn_inverter], {"progress"}),
        (MaximiseOptions, [maximisers], {"parameterisation"}),
        (CompareUnitsOptions, [compare_units], {"ranks"}),
        (ExploreOptions, [find_or_prepare, serve], {"progress"}),
    ],
)
def test_explanations_take_every_option_of_their_functions(options, functions, taken):
    assert options.__annotations__.keys() == set().union(*(keywords(function) for function in functions)) - taken


def test_public_functions_have_no_untyped_keywords():
    for function in [getattr(selfsight, name) for name in selfsight.api.__all__] + [
        value for name, value in vars(selfsight.Run).items() if inspect.isfunction(value) and not name.startswith("_")
    ]:
        for parameter in inspect.signature(function).parameters.values():
            assert parameter.kind != parameter.VAR_KEYWORD or "Options" in str(parameter.annotation), function
