"""Durations of requests."""

import pytest

from selfsight.data.opening import open_source
from selfsight.engine.hardware import choose_hardware
from selfsight.workflows.train import resolve
from selfsight.workflows.train.request import TrainRequest


@pytest.mark.parametrize(
    ("seconds", "steps", "words"),
    [
        (1.0, 60, "60 steps (7.5 epochs): 1 minutes at 1000 ms a step"),
        (30.0, 10, "10 steps (1.2 epochs): the fewest, about 5.0 minutes at 30000 ms a step, more than the budget"),
        (0.001, 6400, "6400 steps (800.0 epochs): limited to 800 epochs"),
    ],
)
def test_budget_of_time_decides_the_steps(monkeypatch: pytest.MonkeyPatch, seconds: float, steps: int, words: str) -> None:
    monkeypatch.setattr(resolve, "trial", lambda *_: seconds)
    lines: list[str] = []
    request = TrainRequest("world:shapes?count=32&size=32", batch=4, minutes=1)
    source = open_source(request.data)
    config = resolve.resolve_config(request, source, 32, choose_hardware("cpu"), lines.append)
    assert config.steps == steps
    assert lines[-1] == words
