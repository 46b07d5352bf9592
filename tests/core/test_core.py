"""Shared definitions: clock, schedules, serialised options, views, processes."""

import json
from dataclasses import dataclass
from math import cos, pi

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from selfsight.core import errors
from selfsight.core.card import Training
from selfsight.core.clock import Clock, key
from selfsight.core.distribute import all_gather_with_grad, all_reduce_mean, all_reduce_sum, any_process, local_rows, rank, world_size
from selfsight.core.errors import SelfsightError, UsageError
from selfsight.core.origin import BITWISE, origin
from selfsight.core.readout import Readout
from selfsight.core.schedule import Constant, Cosine, Steps, Warmup, falls_due, parse_schedule
from selfsight.core.serialize import differences, from_json, to_json
from selfsight.core.views import Images, Views
from selfsight.methods.table import METHODS
from selfsight.workflows.train.config import TrainConfig, resolve_options


@given(seed=some.integers(0, 2**63), parts=some.lists(some.integers(-5, 2**40), max_size=4))
def test_key_is_a_seed(seed, parts):
    value = key(seed, *parts)
    assert 0 <= value < 2**63
    assert value == key(seed, *parts)
    torch.Generator().manual_seed(value)
    np.random.default_rng(value)


def test_keys_depend_on_every_part_and_its_position():
    keys = {key(seed, step, rank) for seed in range(10) for step in range(10) for rank in range(10)}
    assert len(keys) == 1000
    assert key(1, 2) != key(2, 1)
    assert key(0) != key(0, 0)
    bits = np.array([[key(0, step) >> bit & 1 for bit in range(63)] for step in range(4000)]).mean(0)
    assert np.abs(bits - 0.5).max() < 0.05
    assert key(0, 1) == 4019119503065096842  # written down: saved runs depend on it


def test_clock():
    clock = Clock(seed=1, step=25, steps=100, steps_per_epoch=10)
    assert (clock.epoch, clock.progress, clock.starts_epoch) == (2, 0.25, False)
    assert Clock(step=20, steps_per_epoch=10).starts_epoch
    assert clock.at("critic").turn == "critic"
    assert clock.at("") is clock
    assert Clock(step=3, steps=0).progress == 1
    assert Clock(step=200, steps=100).progress == 1


def at(fraction: float) -> Clock:
    return Clock(step=round(1000 * fraction), steps=1000)


def test_quadratically_spaced_steps_are_denser_at_first():
    due = [step for step in range(400) if falls_due(Clock(step=step, steps=400), 10)]
    assert due == [4 * i**2 for i in range(10)]
    assert falls_due(Clock(step=0, steps=3), 1)
    assert not falls_due(Clock(step=1, steps=3), 1)


def test_schedules():
    assert Constant(0.3)(at(0.7)) == 0.3
    for fraction in (0.0, 0.25, 0.9, 1.0):
        assert Cosine(1.0, 0.2)(at(fraction)) == pytest.approx(0.2 + 0.8 * (1 + cos(pi * fraction)) / 2)
    warm = Warmup(0.04, 0.07, until=0.5)
    assert [warm(at(fraction)) for fraction in (0, 0.25, 0.5, 1)] == pytest.approx([0.04, 0.055, 0.07, 0.07])
    assert Warmup(0.0, 1.0, until=0.0)(at(0)) == 1
    steps = Steps((1.0, 0.1, 0.01), (0.3, 0.6))
    assert [steps(at(fraction)) for fraction in (0, 0.29, 0.3, 0.59, 0.6, 1)] == [1, 1, 0.1, 0.1, 0.01, 0.01]
    with pytest.raises(UsageError, match="2 values needs 1 fractions, not 2"):
        Steps((1.0, 0.1), (0.3, 0.6))


@pytest.mark.parametrize(("text", "meant"), [("0.99", Constant(0.99)), ("0.996..1.0", Cosine(0.996, 1.0)), ("1e-3..0", Cosine(1e-3, 0.0))])
def test_schedules_are_typed(text, meant):
    assert parse_schedule(text) == meant
    assert parse_schedule(str(meant)) == meant


@pytest.mark.parametrize("text", ["", "high", "1..2..3", "0.9 to 1"])
def test_invalid_schedules_are_rejected(text):
    with pytest.raises(UsageError, match="not a schedule") as refusal:
        parse_schedule(text)
    assert ".." in refusal.value.remedy


@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize("name", METHODS)
def test_configuration_survives_json(name, size):
    preset, options, training = resolve_options(name, size=size)
    before = TrainConfig("world:shapes", name, preset.backbone, size, 8, 10, options=options, training=training)
    text = json.dumps(before.to_json())
    after = TrainConfig.from_json(json.loads(text))
    assert after == before
    assert json.dumps(after.to_json()) == text
    assert not differences(before.to_json(), after.to_json())


def test_json_keeps_values_and_makes_sequences_tuples():
    value = {"a": [1, 2.5, None], "b": {"c": Cosine(0.0, 1.0)}, "d": (True, "x")}
    assert from_json(json.loads(json.dumps(to_json(value)))) == {"a": (1, 2.5, None), "b": {"c": Cosine(0.0, 1.0)}, "d": (True, "x")}


@dataclass(frozen=True)
class Foreign:
    """A dataclass outside of this package."""

    x: int = 0


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "subprocess:Popen",
        "selfsightly.evil:Thing",
        "selfsight.core.clock:key",
        "selfsight.core.errors:UsageError",
        "selfsight.core.clock:missing",
        "",
        f"{__name__}:Foreign",
    ],
)
def test_foreign_classes_are_rejected(name):
    with pytest.raises(UsageError, match="not a class of options"):
        from_json({"is": name, "x": 1})


@pytest.mark.parametrize("value", [torch.zeros(1), {1, 2}, object(), b"x"])
def test_unsupported_types_are_rejected(value):
    with pytest.raises(UsageError, match="cannot be saved"):
        to_json({"x": value})


def test_differences_are_named_by_their_path():
    old, new = {"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"b": 1, "c": 3}, "d": [2], "e": 0}
    assert differences(old, new) == ["a.c: 2 -> 3", "d: [1] -> [2]", "e: None -> 0"]
    assert differences(to_json(Training()), to_json(Training(rate=0.5))) == ["rate: 0.06 -> 0.5"]


@pytest.mark.parametrize("place", ["large", "small", "index", "hints", "streams"])
def test_views_agree_on_the_batch(place):
    two, three = torch.zeros(2, 3, 4, 4), torch.zeros(3, 3, 4, 4)
    values = {"large": (two, three), "small": (three,), "index": torch.arange(3), "hints": {"turn": three}, "streams": {"flow": three}}
    views = Views((two,))
    vars(views)[place] = values[place]  # as it would be without the shape checks of these tests
    with pytest.raises(UsageError, match=r"\[2, 3\]"):
        views.__post_init__()


def test_views_are_mapped_everywhere():
    views = Views(
        (torch.ones(2, 3, 4, 4),),
        (torch.ones(2, 3, 2, 2),),
        torch.arange(2),
        {"turn": torch.ones(2, 1), "mask": torch.ones(2, 1, dtype=torch.bool)},
        {"sound": torch.ones(2, 1, 7)},
    )
    first = views.map(lambda tensor: tensor[:1])
    assert len(first) == 1
    tensors = (*first.large, *first.small, first.index, *first.hints.values(), *first.streams.values())
    assert len(tensors) == 6
    assert all(tensor is not None and len(tensor) == 1 for tensor in tensors)
    double = views.to(torch.float64)
    assert double.large[0].dtype == double.small[0].dtype == double.hints["turn"].dtype == double.streams["sound"].dtype == torch.float64
    assert double.hints["mask"].dtype == torch.bool
    assert double.index is not None
    assert double.index.dtype == torch.int64


def test_images_are_mapped_everywhere():
    images = Images(torch.zeros(3, 3, 4, 4, dtype=torch.uint8), torch.arange(3), torch.full((3, 2), 4))
    part = images.map(lambda tensor: tensor[1:])
    assert len(part) == len(part.index) == 2
    assert part.extent is not None
    assert len(part.extent) == 2
    assert Images(images.pixels, images.index).map(lambda tensor: tensor).extent is None


def test_one_process_needs_no_communication():
    rows = torch.randn(3, 2, requires_grad=True)
    assert (world_size(), rank()) == (1, 0)
    for word in (all_gather_with_grad, all_reduce_sum, all_reduce_mean, local_rows):
        torch.testing.assert_close(word(rows), rows, rtol=0, atol=0)
    all_gather_with_grad(rows).sum().backward()
    assert rows.grad is not None
    assert rows.grad.eq(1).all()
    assert any_process(True)
    assert not any_process(False)


def test_every_error_has_its_exit_code():
    kinds = {name: getattr(errors, name) for name in errors.__all__}
    codes = {name: kind.exit_code for name, kind in kinds.items()}
    assert codes == {
        "Collapsed": 4,
        "DataError": 3,
        "Diverged": 4,
        "EnvironmentFault": 5,
        "Interrupted": 130,
        "MissingExtra": 5,
        "MissingHint": 2,
        "Preempted": 75,
        "ResumeMismatch": 2,
        "SelfsightError": 1,
        "UsageError": 2,
    }
    assert all(issubclass(kind, SelfsightError) for kind in kinds.values())
    assert str(UsageError("This.", "Do that.")) == "This.\nDo that."
    assert "pip install 'selfsight[faiss]'" in errors.MissingExtra("faiss", "faiss", "Fast search").remedy


def test_origin_contains_the_fields_of_reproducibility():
    here = origin({"device": "cpu", "precision": "fp32", "compile": False, "threads": 1})
    assert set(BITWISE) <= here.keys()
    assert here["versions"]["torch"] == here["torch"]
    json.dumps(here)


def test_readout_is_saved_and_loaded(tmp_path):
    before = Readout("linear", "output", {"weight": np.eye(2)}, ("a", "b"), {"penalty": 0.1})
    before.save(tmp_path / "deep" / "linear")
    after = Readout.load(tmp_path / "deep" / "linear")
    np.testing.assert_array_equal(after.arrays["weight"], np.eye(2))
    assert (after.kind, after.layer, after.classes, after.facts) == (before.kind, before.layer, before.classes, before.facts)
    with pytest.raises(UsageError, match="no fitted"):
        Readout.load(tmp_path / "other")
