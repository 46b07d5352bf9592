"""Properties of every method: one suite over the table."""

import json
import math
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from inspect import signature

import numpy as np
import pytest
import torch

from selfsight.core.errors import DataError, MissingHint, UsageError
from selfsight.core.method import Relabels, Supervised
from selfsight.core.serialize import from_json, to_json
from selfsight.core.views import Views
from selfsight.data.loader import Loader
from selfsight.engine.fit import fit, labels_of
from selfsight.engine.health import Health
from selfsight.engine.observe import Recorder
from selfsight.engine.plan import turns_of
from selfsight.measure.probes.online import OnlineKnn
from selfsight.methods.table import METHODS, method_class
from selfsight.modules.momentum import Momentum
from selfsight.workflows.train.config import build, plan_of, resolve_options

from small import CPU, Trial, settings, trial, twin, world

NEEDY = (
    "artifacts",
    "beit",
    "bigan",
    "cmc",
    "context",
    "deepcluster",
    "deepcluster_v2",
    "dinov2",
    "exemplar",
    "gan",
    "ibot",
    "inpaint",
    "jigsaw",
    "lci",
    "mae",
    "mean_teacher",
    "npid",
    "pcl",
    "pirl",
    "rotation_decoupling",
    "rotnet",
    "sela",
    "sela_v2",
    "simmim",
    "sit",
    "supcon",
    "supervised",
    "vae",
    "wgan_gp",
)
PAPER = re.compile(r"(?:van den )?[A-Z][\w. &]+ \d{4}, (arXiv:\d{4}\.\d{4,5}|CVPR)")


@pytest.fixture(scope="module")
def pictures():
    return world()


@pytest.fixture(scope="module")
def ready(pictures) -> Callable[[str], Trial]:
    """A method ready for a step; built once, and not changed by the tests that share it."""
    made: dict[str, Trial] = {}
    return lambda name: made.setdefault(name, trial(name, pictures))


@pytest.mark.parametrize("name", METHODS)
def test_losses_are_finite_and_diagnostics_detached(ready, name):
    for outcome in ready(name).outcomes().values():
        assert outcome.losses
        assert all(math.isfinite(float(loss.detach())) for loss in outcome.losses.values())
        assert not any(sign.requires_grad for sign in outcome.diagnostics.values())


@pytest.mark.parametrize("name", METHODS)
def test_gradient_reaches_every_trained_parameter_and_no_teacher(ready, name):
    case = ready(name)
    reached: set[str] = set()
    for turn in turns_of(case.method):
        case.method.zero_grad(set_to_none=True)
        case.outcomes()[turn.name].loss.backward()
        modules = {id(parameter) for player in turn.modules for parameter in player.parameters()}
        for word, parameter in case.method.named_parameters():
            assert parameter.requires_grad or parameter.grad is None, f"{word} is a teacher's"
            if id(parameter) in modules and parameter.grad is not None and bool(parameter.grad.any()):
                reached.add(word)
    assert reached == {word for word, parameter in case.method.named_parameters() if parameter.requires_grad and parameter.numel()}


@pytest.mark.parametrize("name", METHODS)
def test_teachers_stay_out_of_the_optimiser(ready, name):
    case = ready(name)
    taught = {id(parameter) for part in case.method.modules() if isinstance(part, Momentum) for parameter in part.parameters()}
    moved = {id(parameter) for group in case.plan.optimiser(case.method).param_groups for parameter in group["params"]}
    assert moved
    assert not taught & moved
    assert moved == {id(parameter) for parameter in case.method.parameters() if parameter.requires_grad}


@pytest.mark.parametrize("name", METHODS)
def test_saved_options_and_state_rebuild_the_method(ready, name):
    case = ready(name)
    saved = json.loads(json.dumps(to_json(case.method.options())))
    again = twin(case, options=from_json(saved), seed=case.settings.seed + 1)
    assert again.options() == case.method.options()
    assert set(case.method.options()) | {"backbone"} == set(_keywords(name))
    before = {word: tensor.clone() for word, tensor in case.method.state_dict().items()}
    expected = case.losses()
    again.load_state_dict(before)
    assert case.losses(again) == expected
    fresh = twin(case, seed=case.settings.seed + 1)
    if not isinstance(fresh, Relabels):  # which cannot step before it has labels
        assert case.losses(fresh) != expected


def _keywords(name: str) -> list[str]:
    return list(signature(method_class(name)).parameters)


@pytest.mark.parametrize("name", METHODS)
def test_same_seed_same_loss(pictures, ready, name):
    case, again, other = ready(name), trial(name, pictures), trial(name, pictures, seed=1)
    assert twin(case).state_dict().keys() == twin(again).state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(twin(case).parameters(), twin(again).parameters(), strict=True))
    assert again.losses() == case.losses()
    assert again.losses() != other.losses()


@pytest.mark.parametrize("name", METHODS)
def test_pickles(ready, name):
    case = ready(name)
    copy = pickle.loads(pickle.dumps(case.method))
    assert case.losses(copy) == case.losses()
    for part in copy.modules():
        if isinstance(part, Momentum):
            assert part.online.links[0] is copy.backbone  # the copy's teacher follows the copy


@pytest.mark.parametrize("name", NEEDY)
def test_missing_hint_is_rejected_with_a_remedy(ready, name):
    case = ready(name)
    bare = replace(case, views=Views(case.views.large, case.views.small))
    with pytest.raises(MissingHint, match=r"needs") as refusal:
        bare.outcomes()
    assert refusal.value.remedy
    assert refusal.value.exit_code == 2


@pytest.mark.parametrize("name", sorted(set(METHODS) - set(NEEDY)))
def test_other_methods_need_only_pixels(ready, name):
    case = ready(name)
    bare = replace(case, views=Views(case.views.large, case.views.small))
    assert all(math.isfinite(loss) for loss in case.losses())
    assert bare.losses() == case.losses()


def test_only_labelled_baselines_get_labels(pictures, ready):
    labels = pictures.truth(np.arange(len(pictures))).labels
    for name in METHODS:
        case = ready(name)
        if isinstance(case.method, Supervised):
            assert case.method.card.kind == "labelled"
            assert case.views.hints["label"][:, 0].tolist() == labels[case.views.index].tolist()
        else:
            assert case.method.card.kind != "labelled"
            assert "label" not in case.views.hints
            assert labels_of(case.method, pictures) is None
    supervised = ready("supcon")
    supervised.plan.labels = None
    with pytest.raises(DataError, match="data set has none"):
        supervised.plan.with_labels(supervised.method, supervised.views)


def test_wrong_backbone_is_rejected_with_a_remedy():
    with pytest.raises(UsageError, match="drops tokens") as refusal:
        build(settings("mae", backbone="resnet_tiny"))
    assert "vit" in refusal.value.remedy


def test_unknown_option_is_rejected_with_the_known_ones():
    with pytest.raises(UsageError, match="no option 'temprature'") as refusal:
        resolve_options("simclr", size=32, options={"temprature": 0.1})
    assert "temperature" in refusal.value.remedy


def test_generated_images_have_the_size_of_the_training_images():
    assert resolve_options("gan", size=64)[1]["size"] == 64
    with pytest.raises(UsageError, match="the option size 32, but the images have 64 px"):
        resolve_options("gan", size=64, options={"size": 32})


def test_unknown_method_is_rejected_with_a_suggestion():
    with pytest.raises(UsageError, match="no method 'simcrl'") as refusal:
        method_class("simcrl")
    assert "simclr" in refusal.value.remedy


@pytest.mark.parametrize("name", METHODS)
def test_observers_change_nothing(pictures, tmp_path, name):
    chosen = settings(name, steps=2)

    def learnt(observers) -> dict[str, torch.Tensor]:
        method = build(chosen)
        fit(method, Loader(pictures, batch=chosen.batch, seed=0), plan_of(chosen, method), CPU, observers)
        return method.state_dict()

    on_record: list[float] = []
    recorder = Recorder(tmp_path, every=1)
    recorder.subscribe(Health(lambda words: None).on_record)
    watched = learnt([recorder, OnlineKnn(pictures, size=chosen.size, every=1, report=lambda step, top1: on_record.append(top1))])
    alone = learnt([])
    assert len(on_record) == 2
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
    untrained = build(chosen).backbone.state_dict()
    assert not all(torch.equal(alone[f"backbone.{word}"], tensor) for word, tensor in untrained.items())
    assert all(torch.equal(watched[word], tensor) for word, tensor in alone.items())


@pytest.mark.parametrize("name", METHODS)
def test_card_is_complete(name):
    kind = method_class(name)
    assert PAPER.search(kind.__doc__ or "")
    assert PAPER.fullmatch(kind.card.paper)
    assert kind.card.paper in " ".join((kind.__doc__ or "").split())
    assert METHODS[name].target.split(".")[0] == kind.card.family
    explained = " ".join((kind.__doc__ or "").split())
    missing = [word for word in _keywords(name) if word not in ("backbone", "recipe") and not re.search(rf"\b{word}\b[\w, ]*:", explained)]
    assert not missing, f"options without words: {missing}"
