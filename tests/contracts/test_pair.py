"""Loss, gradient and complete state of every method are equal on one and two processes, in float64."""

from typing import Any

import pytest
import torch

from pair import CASES, STEPS

CLOSE = 1e-9
RESTS = {"artifacts"}
"""Whose turns rest for a part of the run."""


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient_equal_one_process(runs: dict[str, Any], case: str) -> None:
    alone, first, second = (runs[who][case] for who in ("alone", "first", "second"))
    assert len(alone["losses"]) >= STEPS
    assert first["losses"] == second["losses"]
    assert first["losses"] == pytest.approx(alone["losses"], rel=CLOSE)
    assert len(first["gradients"]) == len(alone["gradients"])
    sizes = []
    for ours, theirs, one in zip(first["gradients"], second["gradients"], alone["gradients"], strict=True):
        assert ours.keys() == one.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in one)
        size = sum(float(value.square().sum()) for value in one.values()) ** 0.5
        wrong = sum(float((ours[name] - one[name]).square().sum()) for name in one) ** 0.5
        assert wrong <= CLOSE * size
        sizes.append(size)
    if case in RESTS:
        assert any(sizes[len(sizes) // 2 :])
    else:
        assert all(sizes[1:])  # MoCo's first step moves nothing: its dictionary is empty


@pytest.mark.parametrize("case", CASES)
def test_state_equals_one_process(runs: dict[str, Any], case: str) -> None:
    alone, first, second = (runs[who][case]["state"] for who in ("alone", "first", "second"))
    assert first.keys() == alone.keys()
    for name, value in alone.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], value, rtol=CLOSE, atol=CLOSE, msg=lambda words, name=name: f"{name}: {words}")


@pytest.mark.parametrize("case", CASES)
def test_every_trained_parameter_was_compared(runs: dict[str, Any], case: str) -> None:
    compared = {name for gradients in runs["alone"][case]["gradients"] for name in gradients}
    assert compared == set(runs["alone"][case]["trained"])
