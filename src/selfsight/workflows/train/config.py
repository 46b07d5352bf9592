"""From a configuration to the things that it names: data, backbone, method, plan; and the choices that nobody made."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from inspect import signature
from typing import Any

import torch

from selfsight.backbones.table import build_backbone
from selfsight.core.card import Preset, Training
from selfsight.core.clock import key
from selfsight.core.errors import UsageError
from selfsight.core.method import Frame, Method
from selfsight.core.serialize import from_json, to_json
from selfsight.data.views.image.puzzles import Jigsaw, Overlapping
from selfsight.data.views.image.recipes import FourTurns, MultiCrop, OneCrop, TwoCrops, View, small_crops, small_multi_crop, small_one_crop
from selfsight.engine.plan import Plan
from selfsight.methods.table import method_class

__all__ = ["SMALL", "TrainConfig", "build", "frame_of", "plan_of", "resolve_options", "world_options"]

SMALL = 96
"""Up to this side in pixels a method's preset for small images is taken; above it the paper's values."""


@dataclass(frozen=True)
class TrainConfig:
    """A run's resolved options: whole numbers only, nothing left to choose. This is ``config.json``."""

    data: str
    method: str
    backbone: str
    size: int
    batch: int
    steps: int
    seed: int = 0
    limit: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    training: Training = field(default_factory=Training)
    accumulate: int = 1
    precision: str = "fp32"
    init: str | None = None
    save_every: int = 500
    record_every: int = 10

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return to_json(asdict(self) | {"options": dict(self.options), "training": self.training})

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> "TrainConfig":
        """From JSON."""
        return cls(**from_json(dict(saved)))


def preset_of(method: type[Method], size: int) -> Preset:
    """A method's settings for images of this size: its own small preset, or the paper's."""
    small = method.small
    return small if size <= SMALL else Preset(method.paper, {}, batch=256, backbone="resnet50")


def resolve_options(
    method: str, *, size: int, options: Mapping[str, Any] | None = None, training: Mapping[str, Any] | None = None
) -> tuple[Preset, dict[str, Any], Training]:
    """The preset, the method's options with the user's in front, and the training recipe likewise.

    A method that makes pictures (``size`` is one of its options) makes them as large as those that it is given.

    Raises:
        UsageError: the method has no such option, or would make pictures of another size.
    """
    kind = method_class(method)
    preset = preset_of(kind, size)
    known = [name for name in signature(kind).parameters if name != "backbone"]
    wrong = sorted((options or {}).keys() - set(known))
    if wrong:
        raise UsageError(f"{method} has no option {wrong[0]!r}.", f"Its options are: {', '.join(known)}.")
    chosen = dict(preset.options) | dict(options or {})
    if "size" in known and chosen.setdefault("size", size) != size:
        raise UsageError(
            f"{method} was told to make pictures of {chosen['size']} px, and is given pictures of {size} px.", "Leave size out."
        )
    return preset, chosen, replace(preset.training, **(training or {}))


def build(settings: TrainConfig) -> Method:
    """The untrained method: the same weights for the same settings. Defaults that the options leave out are the signature's."""
    kind = method_class(settings.method)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(settings.seed, 0xB17))
        backbone = build_backbone(settings.backbone, size=settings.size)
        return kind(backbone, **settings.options)  # pyright: ignore[reportCallIssue]


def world_options(method: str) -> dict[str, Any]:
    """Options for ``world:shapes``: what a user knows of pictures and a method cannot.

    One object fills half of the picture, so that coloured crops are at least half of the area; light comes from any side, and a shape
    is the same shape on its head, so that views that are to agree are turned by right angles. Unturned, the side that the light comes from is the
    easiest thing that two views have in common, and methods without negatives learn little else.
    """
    recipe: Any = method_class(method).small.options.get("recipe")
    if isinstance(recipe, FourTurns | Jigsaw | Overlapping) and recipe.view.jitter:
        meet = isinstance(recipe, Jigsaw) and recipe.whole  # turns are the task of one, and the place of tiles that of the others
        return {"recipe": replace(recipe, view=small_one_crop(least=0.5, turn=0.75 if meet else 0.0).view)}
    makers = {TwoCrops: small_crops, MultiCrop: small_multi_crop, OneCrop: small_one_crop}
    if type(recipe) not in makers:
        return {}
    made = makers[type(recipe)](least=0.5, turn=0.75)
    views = {item.name: getattr(made, item.name) for item in fields(made) if isinstance(getattr(recipe, item.name), View)}
    coloured = any(getattr(recipe, name).jitter for name in views)
    return {"recipe": replace(recipe, **views)} if coloured else {}


def frame_of(settings: TrainConfig, method: Method) -> Frame:
    """The picture that the method's views are made for."""
    return Frame(settings.size, method.backbone.stride, method.backbone.channels)


def plan_of(settings: TrainConfig, method: Method) -> Plan:
    """How the method is trained."""
    return Plan(
        settings.seed, settings.steps, settings.batch, settings.training, frame_of(settings, method), accumulate=settings.accumulate
    )
