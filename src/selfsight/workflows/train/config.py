"""The resolved configuration of a run, and its data, backbone, method and training plan."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from inspect import signature
from pathlib import Path
from typing import Any

from selfsight.backbones.table import build_backbone
from selfsight.core.card import Preset, Training
from selfsight.core.clock import key
from selfsight.core.errors import DataError, UsageError
from selfsight.core.files import read_json
from selfsight.core.method import Frame, Method
from selfsight.core.rng import seeded_rng
from selfsight.core.serialize import from_json, to_json
from selfsight.data.views.image.puzzles import Jigsaw, Overlapping
from selfsight.data.views.image.recipes import FourTurns, MultiCrop, OneCrop, TwoCrops, View, small_crops, small_multi_crop, small_one_crop
from selfsight.engine.plan import Plan
from selfsight.methods.limits import check_options
from selfsight.methods.table import METHODS, method_class
from selfsight.workflows.train.former import complete_options

__all__ = ["SMALL", "TrainConfig", "build", "frame_of", "plan_of", "resolve_options", "world_options"]

_TYPES: dict[str, tuple[type, ...]] = {
    "data": (str,), "method": (str,), "backbone": (str,), "size": (int,), "batch": (int,), "steps": (int,), "seed": (int,),
    "limit": (int, type(None)), "options": (dict,), "training": (Training,), "accumulate": (int,), "precision": (str,),
    "init": (str, type(None)), "save_every": (int,), "record_every": (int,),
}  # fmt: skip
SMALL = 96
"""Maximum side in pixels for a method's preset for small images; above it the paper's values apply."""


@dataclass(frozen=True)
class TrainConfig:
    """The resolved options of a run; saved as ``config.json``."""

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
        """For JSON."""
        return to_json(asdict(self) | {"options": dict(self.options), "training": self.training})

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> "TrainConfig":
        """From JSON."""
        return cls(**from_json(dict(saved)))

    @classmethod
    def read(cls, file: Path) -> "TrainConfig":
        """The configuration in a file; options that it does not name have the defaults of version 0.1.

        Args:
            file: the ``config.json`` of a run.

        Raises:
            DataError: it is damaged, or not the configuration of a run.
            OSError: it cannot be read.
        """
        remedy = "Use the folder of a run as selfsight learn wrote it, or restore the file from a copy."
        saved = read_json(file, remedy)
        try:
            values = from_json(saved)
            for name, kinds in _TYPES.items():
                if name in values and (not isinstance(values[name], kinds) or isinstance(values[name], bool)):
                    raise TypeError(f"{name} is {values[name]!r}")
            config = cls(**values)
            return replace(config, options=complete_options(config.method, config.options))
        except (TypeError, ValueError, KeyError, AttributeError, UsageError) as error:
            reason = error.cause if isinstance(error, UsageError) else str(error).partition("__init__() ")[2] or str(error)
            raise DataError(f"{file} is not the configuration of a run: {reason}", remedy) from error


def preset_of(method: type[Method], size: int) -> Preset:
    """A method's preset: its own for small images, otherwise the paper's settings.

    Args:
        method: the method class.
        size: side of the images in pixels.
    """
    small = method.small
    return small if size <= SMALL else Preset(method.paper, {}, batch=256, backbone="resnet50")


def resolve_options(
    method: str, *, size: int, options: Mapping[str, Any] | None = None, training: Mapping[str, Any] | None = None
) -> tuple[Preset, dict[str, Any], Training]:
    """The preset, the method's options and the training recipe, with the user's values on top.

    The ``size`` option of a method that generates images defaults to the image size.

    Args:
        method: name of the method.
        size: side of the images in pixels.
        options: the user's options of the method.
        training: the user's options of the training recipe.

    Raises:
        UsageError: the method has no such option, a number is outside of its range, or the method would generate images of another size.
    """
    cls = method_class(method)
    preset = preset_of(cls, size)
    names = [name for name in signature(cls).parameters if name != "backbone"]
    unknown = sorted((options or {}).keys() - set(names))
    if unknown:
        raise UsageError(f"{method} has no option {unknown[0]!r}.", f"Its options are: {', '.join(names)}.")
    resolved = dict(preset.options) | dict(options or {})
    check_options(METHODS.resolve(method).name, resolved, {name: value.default for name, value in signature(cls).parameters.items()})
    if "size" in names and resolved.setdefault("size", size) != size:
        raise UsageError(f"{method} has the option size {resolved['size']}, but the images have {size} px.", "Omit the option size.")
    return preset, resolved, replace(preset.training, **(training or {}))


def build(config: TrainConfig) -> Method:
    """The untrained method, with the same weights for the same settings; omitted options have the defaults of its signature.

    Raises:
        UsageError: the network or the method cannot be made with these options.
    """
    cls = method_class(config.method)
    with seeded_rng(key(config.seed, 0xB17)):
        backbone = build_backbone(config.backbone, size=config.size)
        try:
            return cls(backbone, **config.options)  # pyright: ignore[reportCallIssue]
        except (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError, AssertionError) as error:
            plain = {name: value for name, value in config.options.items() if not is_dataclass(value)}
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UsageError(
                f"{config.method} cannot be made with its options: {reason}",
                f"The options are {', '.join(f'{name} {value}' for name, value in plain.items())}.",
            ) from error


def world_options(method: str) -> dict[str, Any]:
    """Options for ``world:shapes``, which depend on the data rather than on the method.

    One object fills half of the image, so that colour crops cover at least half of the area. Light comes from any side and shapes are
    equivalent under rotation, so that views of one image are rotated by right angles. Without rotation the direction of the light is the
    easiest feature that two views share, and methods without negatives learn little else.
    """
    recipe: Any = method_class(method).small.options.get("recipe")
    if isinstance(recipe, FourTurns | Jigsaw | Overlapping) and recipe.view.jitter:
        rotated = isinstance(recipe, Jigsaw) and recipe.whole  # in the other recipes rotation or tile position is the pretext task
        return {"recipe": replace(recipe, view=small_one_crop(min_area=0.5, turn=0.75 if rotated else 0.0).view)}
    makers = {TwoCrops: small_crops, MultiCrop: small_multi_crop, OneCrop: small_one_crop}
    if type(recipe) not in makers:
        return {}
    adapted = makers[type(recipe)](min_area=0.5, turn=0.75)
    views = {item.name: getattr(adapted, item.name) for item in fields(adapted) if isinstance(getattr(recipe, item.name), View)}
    uses_colour = any(getattr(recipe, name).jitter for name in views)
    return {"recipe": replace(recipe, **views)} if uses_colour else {}


def frame_of(config: TrainConfig, method: Method) -> Frame:
    """Size, stride and channels of the views.

    Args:
        config: the configuration.
        method: the method.
    """
    return Frame(config.size, method.backbone.stride, method.backbone.channels)


def plan_of(config: TrainConfig, method: Method) -> Plan:
    """The training plan.

    Args:
        config: the configuration.
        method: the method.
    """
    return Plan(config.seed, config.steps, config.batch, config.training, frame_of(config, method), accumulate=config.accumulate)
