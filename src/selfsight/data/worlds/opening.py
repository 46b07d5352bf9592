"""Worlds by their spec."""

from selfsight.core.errors import UsageError
from selfsight.data.source import Source
from selfsight.data.spec import Spec, nearest
from selfsight.data.worlds.shapes import PRESETS
from selfsight.data.worlds.world import ShapesWorld

__all__ = ["open_world"]


def open_world(spec: Spec, size: int | None) -> Source:
    """A rendered world; options preset, count, size, seed and split.

    Args:
        spec: ``world:shapes``.
        size: side of the images in pixels; 32 by default.

    Raises:
        UsageError: no such world, preset or option.
    """
    if spec.name != "shapes":
        raise UsageError(f"There is no world {spec.name!r}.", "Did you mean world:shapes?")
    spec.allow("preset", "count", "size", "seed", "split")
    preset, split = spec.options.get("preset", "learnable"), spec.options.get("split", "train")
    if preset not in PRESETS:
        raise UsageError(f"world:shapes has no preset {preset!r}.", nearest(preset, list(PRESETS)) or f"Known: {', '.join(PRESETS)}.")
    count, side = spec.number("count", 10_000 if split == "train" else 2_000), spec.number("size", size or 32)
    return ShapesWorld(PRESETS[preset], count=count, size=side, seed=spec.number("seed", 0), split=split, spec=spec.text)
