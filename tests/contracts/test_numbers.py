"""Every numeric option of every verb and method refuses what is outside of its range, before anything is read or made."""

from dataclasses import fields, is_dataclass
from importlib import import_module
from inspect import signature
from math import inf, nan
from typing import Any, get_args, get_type_hints

import pytest

from selfsight.cli import VERBS, main
from selfsight.cli.discover import Discover
from selfsight.cli.explain import Attribute, Compare, Diagnose, Invert, Maximise
from selfsight.core.bounds import BOUNDS, Bounds, check_numbers
from selfsight.core.errors import UsageError
from selfsight.core.schedule import Constant, Cosine, Steps, Warmup
from selfsight.methods.limits import check_options, limit_of
from selfsight.methods.table import METHODS, method_class
from selfsight.workflows.train.config import resolve_options
from selfsight.workflows.train.request import TrainRequest

NET, SCENES = "untrained:resnet_tiny?width=4", "world:shapes?count=4&size=16"
EXPLAIN: dict[str, tuple[type, list[str]]] = {
    "attribute": (Attribute, [NET, f"{SCENES}#0"]),
    "sheet": (Attribute, [NET, f"{SCENES}#0"]),
    "invert": (Invert, [NET, f"{SCENES}#0"]),
    "maximise": (Maximise, [NET, "unit:stages.2/0"]),
    "compare": (Compare, [NET, NET]),
    "diagnose": (Diagnose, [NET, f"{SCENES}#0"]),
}
PLACES = {
    "measure": [NET, "--train", SCENES, "--test", SCENES],
    "bank": [NET, "--data", SCENES],
    "discover": [NET, SCENES],
    "explore": [NET, "--data", SCENES],
}
SCHEDULES = Constant | Cosine | Warmup | Steps


def options_of(verb: str) -> type | None:
    module = import_module(f"selfsight.cli.{verb}")
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and is_dataclass(kind) and kind.__module__ == module.__name__]
    return kinds[0] if len(kinds) == 1 else None


def numbers(kind: type) -> dict[str, tuple[type, ...]]:
    """Numeric options of a dataclass."""
    found = {}
    for name, hint in get_type_hints(kind).items():
        kinds = set(get_args(hint)) or {hint}
        if kinds & {int, float} and bool not in kinds:
            found[name] = tuple(kinds & {int, float})
    return found


def verbs() -> list[tuple[tuple[str, ...], list[str], type]]:
    plain = [((verb,), PLACES.get(verb, []), kind) for verb in VERBS if verb not in ("explain", "learn") and (kind := options_of(verb))]
    return plain + [(("explain", verb), places, kind) for verb, (kind, places) in EXPLAIN.items()]


CASES = [(words, places, name, kinds) for words, places, kind in verbs() for name, kinds in numbers(kind).items()]


def wrong_values(limit: Bounds, kinds: tuple[type, ...]) -> list[str]:
    values = ["-2000" if limit.least < -3 else "-3"] + (["nan", "inf"] if float in kinds else [])
    return values + (["0"] if not limit.fits(0) else []) + ([str(int(limit.most) + 1)] if limit.most != inf else [])


def test_all_verbs_with_numbers_are_here() -> None:
    assert {words[0] for words, *_ in CASES} >= {"measure", "bank", "discover", "explore", "demo", "explain"}
    assert {name for words, _, name, _ in CASES if words == ("discover",)} == {
        "classes", "count", "limit", "side", "block", "stride", "colour", "min_confidence", "seed", "size"
    }  # fmt: skip
    assert numbers(Discover)["min_confidence"] == (float,)


@pytest.mark.parametrize(("words", "places", "name", "kinds"), CASES, ids=[f"{'-'.join(words)}-{name}" for words, _, name, _ in CASES])
def test_a_verb_refuses_a_number_outside_its_range(words, places, name, kinds, capsys) -> None:
    for value in wrong_values(BOUNDS[name], kinds):
        assert main([*words, *places, f"--{name.replace('_', '-')}", value]) == 2, value
        cause, remedy, *rest = capsys.readouterr().err.splitlines()
        assert cause.startswith(f"error: {name} is ")
        assert f"--{name.replace('_', '-')}" in remedy
        assert not rest


@pytest.mark.parametrize("name", list(numbers(TrainRequest)))
def test_learn_refuses_a_number_outside_its_range(name, capsys) -> None:
    kinds = numbers(TrainRequest)[name]
    for value in ["-3", *(["nan", "inf"] if float in kinds else [])]:
        assert main(["learn", SCENES, f"--{name.replace('_', '-')}", value]) == 2, value
        cause, remedy, *rest = capsys.readouterr().err.splitlines()
        assert cause.startswith("error: ")
        assert remedy.strip()
        assert not rest


def method_numbers() -> list[tuple[str, str, Any]]:
    found = []
    for method in METHODS:
        for name, parameter in signature(method_class(method)).parameters.items():
            default = parameter.default
            listed = isinstance(default, tuple) and not is_dataclass(default)
            if (isinstance(default, int | float | SCHEDULES) and not isinstance(default, bool)) or listed:
                found.append((method, name, default))
    return found


NUMBERS = method_numbers()


@pytest.mark.parametrize(("method", "name", "default"), NUMBERS, ids=[f"{method}-{name}" for method, name, _ in NUMBERS])
def test_a_method_refuses_a_number_outside_its_range(method, name, default) -> None:
    limit = limit_of(method, name, default)
    for number in (-3, nan, inf, *([0] if not limit.fits(0) else []), *([limit.most + 1] if limit.most != inf else [])):
        values = (
            [(number,)]
            if isinstance(default, tuple)
            else [Constant(number), Cosine(number, 0.5), Cosine(0.5, number)]
            if isinstance(default, SCHEDULES)
            else [number]
        )
        for value in values:
            with pytest.raises(UsageError, match=f"{name} is ") as refusal:
                resolve_options(method, size=32, options={name: value})
            assert refusal.value.remedy


@pytest.mark.parametrize("method", METHODS)
def test_the_presets_are_within_the_ranges(method) -> None:
    kind = method_class(method)
    defaults = {name: parameter.default for name, parameter in signature(kind).parameters.items()}
    check_options(method, defaults, defaults)
    check_options(method, kind.small.options, defaults)


def test_the_fraction_of_a_schedule_is_checked() -> None:
    with pytest.raises(UsageError, match="teacher_temperature is 2"):
        resolve_options("dino", size=32, options={"teacher_temperature": Warmup(0.04, 0.07, until=2.0)})


@pytest.mark.parametrize(
    "words", [["--hidden", "0", "--method", "byol"], ["--temperature", "0"], ["--temperature", "nan"], ["--hidden", "-3"]]
)
def test_options_of_methods_are_checked_on_the_command_line(words, capsys) -> None:
    assert main(["learn", SCENES, "--size", "16", "--steps", "1", *words]) == 2
    cause, remedy, *rest = capsys.readouterr().err.splitlines()
    assert " is " in cause
    assert "--" in remedy
    assert not rest


def test_bounds_in_words() -> None:
    assert str(Bounds(1)) == "at least 1"
    assert str(Bounds(0, above=True)) == "above 0"
    assert str(Bounds(0, 1)) == "at least 0 and at most 1"
    check_numbers({"count": 1, "unknown": nan, "limit": None, "seed": True})
    assert len(fields(Bounds)) == 3
