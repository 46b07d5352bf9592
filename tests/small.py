"""Every method with a tiny network and tiny options."""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch

from selfsight.core.clock import Clock
from selfsight.core.method import Method, Outcome, Relabels
from selfsight.core.part import parts_of
from selfsight.core.rng import seed_rng
from selfsight.core.views import Views
from selfsight.data.loader import Loader
from selfsight.data.opening import open_source
from selfsight.data.source import Source
from selfsight.engine.fit import labels_of
from selfsight.engine.hardware import Hardware
from selfsight.engine.plan import Plan, turns_of
from selfsight.workflows.train.config import TrainConfig, build, plan_of, resolve_options

SMALL: dict[str, dict[str, Any]] = {
    "cmc": {"dim": 16},
    "distil": {"teacher": "untrained:resnet_tiny?width=8"},
    "scan": {"clusters": 4, "heads": 2, "neighbours": 3},
    "sit": {"hidden": 32, "dim": 16},
    "split_brain": {"levels": 8},
    "artifacts": {"width": 4, "before": 0.5},
    "lci": {"width": 4},
    "beit": {"codes": 16, "sample": 500},
    "bigan": {"width": 4, "hidden": 16},
    "cpc": {"dim": 16, "depth": 2},
    "dim": {"hidden": 16, "dim": 16, "whole": 0.5},
    "dinov2": {"prototypes": 32, "hidden": 32, "bottleneck": 16},
    "exemplar": {"exemplars": 64},
    "inpaint": {"code": 8, "width": 4},
    "lejepa": {"hidden": 32, "dim": 8, "directions": 16},
    "mean_teacher": {"classes": 16, "labelled": 0.5},
    "pcl": {"keys": 64, "dim": 16, "clusters": (4, 6), "alone": 0.0},
    "pirl": {"dim": 16},
    "rotation_decoupling": {"dim": 16},
    "sela_v2": {"hidden": 32, "dim": 16, "clusters": 8, "relabels": 2},
    "supcon": {"hidden": 64, "dim": 32},
    "supervised": {"classes": 16},
    "wgan_gp": {"width": 4, "every": 1},
    "align_uniform": {"hidden": 64, "dim": 32},
    "autoencode": {"code": 8, "width": 4},
    "context": {"hidden": 32},
    "count": {"things": 16},
    "deepcluster_v2": {"hidden": 64, "dim": 16, "clusters": 8, "heads": 2},
    "denoise": {"code": 8, "width": 4},
    "ibot": {"prototypes": 32, "hidden": 32, "bottleneck": 16},
    "iic": {"clusters": 4, "more": 8, "heads": 2},
    "jigsaw": {"hidden": 16},
    "moco_v3": {"hidden": 64, "dim": 32},
    "nnclr": {"hidden": 64, "dim": 32, "support": 16},
    "npid": {"dim": 16},
    "sela": {"clusters": 8, "heads": 2, "relabels": 2},
    "simsiam": {"dim": 64, "bottleneck": 16},
    "vae": {"code": 64, "width": 4},
    "vicreg": {"hidden": 64, "dim": 32},
    "barlow": {"hidden": 64, "dim": 32},
    "byol": {"hidden": 64, "dim": 32},
    "deepcluster": {"clusters": 16, "components": 8},
    "dino": {"prototypes": 32, "hidden": 32, "bottleneck": 16},
    "gan": {"width": 8},
    "mae": {"depth": 1, "width": 32},
    "moco": {"keys": 64, "dim": 16, "groups": 4},
    "simclr": {"hidden": 64, "dim": 32},
    "swav": {"hidden": 64, "dim": 16, "clusters": 16, "queue": 8},
}
BACKBONES = {"bigan": "dcgan?width=8", "gan": "dcgan?width=8", "wgan_gp": "dcgan?width=8&norm=false"}
SIDES = {"context": 32, "jigsaw": 32, "pirl": 32}
"""Whose tiles are whole cells; others see 16 px."""
THINNER = {"resnet_tiny": "resnet_tiny?width=8", "vit_nano": "vit_nano?blocks=1"}
CPU = Hardware(torch.device("cpu"))


@cache  # it keeps what it has rendered
def world(count: int = 32, size: int = 32) -> Source:
    return open_source(f"world:shapes?count={count}&size={size}")


def thin(backbone: str) -> str:
    """A thinner form of a small backbone."""
    for name, thinner in THINNER.items():
        backbone = backbone.replace(f"{name}?", f"{thinner}&").replace(f"network={name}", f"network={thinner}")
        backbone = thinner if backbone == name else backbone
    return backbone


def small_backbone(name: str, side: int) -> str:
    """The backbone of a method's preset, thinner."""
    return thin(BACKBONES.get(name) or resolve_options(name, size=side)[0].backbone)


def settings(
    name: str, *, size: int | None = None, batch: int = 8, steps: int = 2, options: dict[str, Any] | None = None, **more: Any
) -> TrainConfig:
    size = size or SIDES.get(name, 16)
    preset, chosen, training = resolve_options(name, size=size, options=SMALL.get(name, {}) | (options or {}))
    backbone = thin(more.pop("backbone", BACKBONES.get(name, preset.backbone)))
    return TrainConfig(
        data="small",
        method=name,
        backbone=backbone,
        size=size,
        batch=batch,
        steps=steps,
        options=chosen,
        training=more.pop("training", training),
        **more,
    )


@dataclass
class Trial:
    """A method ready for a step, and the views of that step."""

    settings: TrainConfig
    method: Method
    plan: Plan
    clock: Clock
    views: Views

    def outcomes(self, method: Method | None = None) -> dict[str, Outcome]:
        """Results of each turn, with a fixed seed for randomness inside networks."""
        method = method or self.method
        found = {}
        for turn in turns_of(method):
            seed_rng(0)
            found[turn.name] = method(self.views, self.clock.at(turn.name))
        return found

    def losses(self, method: Method | None = None) -> list[float]:
        return [float(outcome.loss.detach()) for outcome in self.outcomes(method).values()]


def trial(name: str, source: Source, **more: Any) -> Trial:
    """The second step of a run of two, so that nothing is frozen and memories contain the first step."""
    chosen = settings(name, **more)
    method = build(chosen)
    plan = plan_of(chosen, method)
    loader = Loader(source, batch=chosen.batch, seed=chosen.seed)
    plan.labels, plan.source = labels_of(method, source), source
    CPU.place(method)
    method.train()
    (before, first), (clock, batch) = plan.iter_batches(loader, CPU)
    if isinstance(method, Relabels):
        method.relabel(lambda network: plan.extract(method, loader, CPU, network), clock)
    Trial(chosen, method, plan, before, plan.views(method, first, before, CPU)[0]).outcomes()
    for part in parts_of(method):
        part.after_step(before)
    return Trial(chosen, method, plan, clock, plan.views(method, batch, clock, CPU)[0])


def twin(of: Trial, **changes: Any) -> Method:
    """The untrained method, rebuilt from its configuration."""
    method = build(replace(of.settings, **changes))
    CPU.place(method)
    return method.train()
