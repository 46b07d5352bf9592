"""A saved run means the options that it was trained with, whatever the defaults are now."""

import json
from dataclasses import replace

import pytest

from selfsight.core.schedule import Warmup
from selfsight.core.serialize import to_json
from selfsight.methods.table import METHODS, method_class
from selfsight.workflows.train.config import TrainConfig, build, resolve_options
from selfsight.workflows.train.former import complete_options, defaults_of
from selfsight.workflows.train.run import RunPolicy, run_training

from small import SMALL
from training import quiet, request_for


def read(tmp_path, method: str, options: dict) -> TrainConfig:
    file = tmp_path / "config.json"
    _, _, training = resolve_options(method, size=224)
    config = TrainConfig("world:shapes", method, "resnet_tiny?width=4", 224, 8, 10, options=options, training=training)
    file.write_text(json.dumps(config.to_json()))
    return TrainConfig.read(file)


@pytest.mark.parametrize(
    ("method", "option", "value"),
    [
        ("simclr", "scale", 1.0),
        ("simsiam", "scale", 1.0),
        ("byol", "scale", 1.0),
        ("vicreg", "halved", False),
        ("dino", "rest", 0.01),
        ("ibot", "teacher_temperature", Warmup(0.04, 0.07, until=0.1)),
        ("dinov2", "distance", 0.05),
        ("swav", "queue_from", 0.15),
        ("moco", "recipe", defaults_of("simclr")["recipe"]),
        ("simsiam", "recipe", defaults_of("simclr")["recipe"]),
        ("lejepa", "recipe", defaults_of("dino")["recipe"]),
    ],
)
def test_options_that_a_run_does_not_name_have_the_defaults_of_its_time(tmp_path, method, option, value):
    assert defaults_of(method)[option] != value, "the default has not changed"
    assert read(tmp_path, method, {}).options[option] == value


def test_named_options_are_kept(tmp_path):
    assert read(tmp_path, "simclr", {"scale": 3.0}).options["scale"] == 3.0
    assert read(tmp_path, "simclr", defaults_of("simclr")).options == defaults_of("simclr")
    assert read(tmp_path, "dinov2", {"distance": 0.2}).options["distance"] == 0.1, "the term was half as large"
    assert read(tmp_path, "dinov2", defaults_of("dinov2")).options["distance"] == defaults_of("dinov2")["distance"]


def test_masks_of_former_views():
    ibot, dino = complete_options("ibot", {})["recipe"], defaults_of("dino")["recipe"]
    assert replace(ibot, mask=None) == replace(dino, mask=None)
    assert (ibot.mask.low, ibot.mask.high, ibot.mask.p) == (0.1, 0.5, 0.5)


@pytest.mark.parametrize("method", METHODS)
def test_runs_name_all_options(tmp_path, method):
    options = defaults_of(method)
    _, small, _ = resolve_options(method, size=32, options=SMALL.get(method))
    completed = options | small
    assert complete_options(method, completed) == completed
    assert to_json(completed)


def test_a_run_resumes_after_a_default_has_changed(tmp_path, monkeypatch):
    """The next change of a default does not change a run that is saved."""
    out = tmp_path / "run"
    run_training(request_for("simclr", steps=4, options=None), out, RunPolicy(progress=quiet))
    saved = json.loads((out / "config.json").read_text())["options"]
    assert saved.keys() == to_json(defaults_of("simclr")).keys()
    cls = method_class("simclr")
    monkeypatch.setitem(cls.__init__.__kwdefaults__ or {}, "scale", 5.0)
    before = build(TrainConfig.read(out / "config.json"))
    assert before.scale == saved["scale"]
