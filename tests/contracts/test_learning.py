"""Six methods of different families learn without collapse, and collapse is detected. Takes minutes: run with ``-m slow``.

``recipes/evidence.py`` measures all methods.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from selfsight.core.method import Method
from selfsight.core.representation import Representation
from selfsight.core.schedule import Constant
from selfsight.data.loader import Loader
from selfsight.data.opening import open_source
from selfsight.data.source import Source
from selfsight.engine.fit import fit
from selfsight.engine.hardware import choose_hardware
from selfsight.engine.health import Health
from selfsight.engine.observe import Recorder
from selfsight.methods.table import method_class
from selfsight.workflows.evaluate.probes import evaluate
from selfsight.workflows.train.config import TrainConfig, build, plan_of, resolve_options, world_options

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
STEPS = {"barlow": 500, "byol": 400, "dino": 300, "mae": 500, "rotnet": 500, "simclr": 300, "swav": 300}
"""Two to six minutes of a core."""


def learn(name: str, source: Source, steps: int, folder: Path, **options: Any) -> tuple[TrainConfig, Method, Health, list[dict[str, Any]]]:
    """Train with the method's preset for small images; returns the collapse detector and the records."""
    preset, chosen, training = resolve_options(name, size=32, options=options)
    settings = TrainConfig(source.spec, name, preset.backbone, 32, preset.batch, steps, options=chosen, training=training)
    hardware = choose_hardware("cpu")
    settings = replace(settings, precision=hardware.precision)
    method, health = build(settings), Health(lambda words: None)
    records: list[dict[str, Any]] = []
    recorder = Recorder(folder, every=settings.record_every)
    recorder.subscribe(health.on_record)
    recorder.subscribe(lambda record, timing: records.append(record))
    fit(method, Loader(source, batch=settings.batch, seed=0), plan_of(settings, method), hardware, [recorder])
    return settings, method, health, records


@pytest.mark.parametrize("name", STEPS)
def test_learns_and_does_not_collapse(tmp_path, name):
    source = open_source("world:shapes?count=10000&size=32&split=train")
    judged = open_source("world:shapes?count=1000&size=32&split=test")
    settings, method, health, _ = learn(name, source, STEPS[name], tmp_path, **world_options(name))
    assert not health.verdict
    normalise = method.recipe.normalise  # pyright: ignore[reportAttributeAccessIssue]
    phi = Representation(method.backbone, mean=normalise.mean, std=normalise.std, size=32, spec=settings.backbone)
    probe = method_class(name).card.probe
    found = evaluate(phi, source, judged, probes=[probe])
    score = found.scores[probe]["top1"].value
    baselines = {baseline: table[probe]["top1"].value for baseline, table in found.baselines.items()}
    assert score > max(baselines.values()), (score, baselines)


UNGUARDED: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "byol": ({"predictor": False}, ("spread", "rank")),
    "dino": ({"balance": "none", "teacher_temperature": Constant(0.1)}, ("spread", "rank", "one cluster", "chance")),
    "swav": ({"balancing": False}, ("spread", "rank", "one cluster", "chance")),
}


@pytest.mark.parametrize("name", UNGUARDED)
def test_collapse_is_detected_without_the_guard(tmp_path, name):
    source = open_source("world:shapes?preset=learnable&count=2000&size=32")
    options, names = UNGUARDED[name]
    _, _, health, records = learn(name, source, 300, tmp_path, **options)
    assert health.verdict, records[-1]
    assert health.verdict.split(":")[0] in names
    assert 0 < health.since < 300
