"""The typed keywords of the public functions are those of the functions that receive them."""

import ast
import inspect
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import selfsight
import selfsight.api
from selfsight.data.opening import open_source
from selfsight.discover.images.clusters import find_clusters
from selfsight.discover.images.duplicates import find_duplicates
from selfsight.discover.images.table import GROUPERS
from selfsight.discover.objects.object_regions import find_objects
from selfsight.discover.objects.table import LOCALISERS
from selfsight.discover.options import GrouperOptions, LocaliserOptions, PartOptions, SegmenterOptions
from selfsight.discover.parts.contrast import learn_parts
from selfsight.discover.parts.parts import find_parts
from selfsight.discover.segments.segment import segment_images
from selfsight.discover.segments.table import SEGMENTERS
from selfsight.explain.checks.diagnosis import diagnose
from selfsight.explain.gallery import maximisers
from selfsight.explain.inversion.descent import invert, invert_with_deep_prior
from selfsight.explain.inversion.inverter import learn_inverter
from selfsight.explain.synthesis.comparison import compare_units
from selfsight.explorer.prepare.build import find_or_prepare
from selfsight.explorer.server.opening import serve
from selfsight.workflows.evaluate.probes import evaluate
from selfsight.workflows.evaluate.run import compare_representations, evaluate_representation
from selfsight.workflows.options import (
    CompareOptions,
    CompareUnitsOptions,
    ComparisonOptions,
    DiagnoseOptions,
    DiscoverOptions,
    EvaluateOptions,
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


@pytest.mark.parametrize(
    ("registry", "options"),
    [(LOCALISERS, LocaliserOptions), (SEGMENTERS, SegmenterOptions), (GROUPERS, GrouperOptions)],
    ids=["localisers", "segmenters", "groupers"],
)
def test_discover_takes_every_option_of_a_method(registry, options):
    taken = {"seed"}  # of the search itself
    for name in registry:
        assert keywords(registry.load(name)) - taken <= options.__annotations__.keys(), name
    known = set().union(*(keywords(registry.load(name)) for name in registry))
    assert options.__annotations__.keys() <= known | LocaliserOptions.__annotations__.keys()
    assert options.__annotations__.keys() <= DiscoverOptions.__annotations__.keys()


def test_parts_take_every_option_of_their_training():
    assert PartOptions.__annotations__.keys() == keywords(learn_parts) - {"seed", "progress"}


def test_comparison_takes_every_option_of_an_evaluation():
    chosen = {"bf16", "banks", "cache"}
    assert EvaluateOptions.__annotations__.keys() == keywords(evaluate) - chosen
    both = keywords(evaluate_representation) | EvaluateOptions.__annotations__.keys()
    assert ComparisonOptions.__annotations__.keys() == both - keywords(compare_representations) - {"others"}


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
        (InvertOptions, [invert, invert_with_deep_prior, learn_inverter], {"progress"}),
        (MaximiseOptions, [maximisers], {"parameterisation"}),
        (CompareUnitsOptions, [compare_units], {"ranks"}),
        (ExploreOptions, [find_or_prepare, serve], {"progress", "entered"}),
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


def public_functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node)
        elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node


def test_no_public_function_takes_any_keyword():
    package = Path(selfsight.__file__).parent
    functions = [(file, function) for file in package.rglob("*.py") for function in public_functions(ast.parse(file.read_text()))]
    assert len(functions) > 1000
    untyped = [
        f"{file.relative_to(package)}: {function.name}"
        for file, function in functions
        if function.args.kwarg and "Unpack" not in ast.unparse(function.args.kwarg.annotation or ast.Constant(0))
    ]
    assert untyped == []
