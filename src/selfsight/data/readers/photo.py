"""Small real data that come with installed libraries: scikit-learn's digits and scikit-image's photographs."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from selfsight.core.clock import key
from selfsight.core.errors import DataError, UsageError
from selfsight.data.decode import Unreadable, decode
from selfsight.data.readers.memory import ArraySource, RenderedSource
from selfsight.data.source import Rows, Source, Truth
from selfsight.data.spec import Spec, nearest

__all__ = ["PHOTOGRAPHS", "PhotoSource", "digits", "open_photo", "photograph"]

PHOTOGRAPHS = {
    "astronaut": "astronaut.png",
    "brick": "brick.png",
    "camera": "camera.png",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
    "coins": "coins.png",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "hubble": "hubble_deep_field.jpg",
    "ihc": "ihc.png",
    "moon": "moon.png",
    "motorcycle": "motorcycle_left.png",
    "retina": "retina.jpg",
    "rocket": "rocket.jpg",
}
"""Photographs inside scikit-image's wheel, available without a network."""


def photograph(name: str) -> np.ndarray:
    """A photograph (3, H, W, uint8) by its name, or by the path of a file.

    Raises:
        UsageError: no such photograph.
        DataError: the file cannot be read.
    """
    package = find_spec("skimage")
    if name in PHOTOGRAPHS and package and package.submodule_search_locations:
        path = Path(package.submodule_search_locations[0], "data", PHOTOGRAPHS[name])
    else:
        path = Path(name).expanduser()
    if not path.is_file():
        raise UsageError(
            f"There is no photograph {name!r}.", nearest(name, list(PHOTOGRAPHS)) or f"Known: {', '.join(PHOTOGRAPHS)}, or a path."
        )
    try:
        return decode(path)[0]
    except Unreadable as problem:
        raise DataError(f"{path} cannot be read: {problem}.", "Use another photograph.") from None


def digits(spec: Spec, size: int | None = None) -> Source:  # noqa: ARG001
    """scikit-learn's 1,797 handwritten digits, 8 x 8 resized to 32 x 32, with three channels.

    Args:
        spec: ``digits?split=test`` is every fifth of them, ``split=train`` the rest; without a split: all.
        size: unused.

    Raises:
        UsageError: no such split.
    """
    import torch
    from sklearn.datasets import load_digits

    spec.allow("split")
    split = spec.options.get("split", "all")
    if split not in ("all", "train", "test"):
        raise UsageError(f"digits has no split {split!r}.", "Use train, test or all.")
    found: Any = load_digits()
    small = torch.from_numpy(found.images / 16 * 255)[:, None]
    large = torch.nn.functional.interpolate(small, size=(32, 32), mode="bilinear", antialias=True).round().to(torch.uint8)
    test = np.arange(len(large)) % 5 == 4
    rows = np.flatnonzero({"all": test | True, "train": ~test, "test": test}[split])
    truth = Truth(labels=found.target.astype(np.int64), classes=tuple("0123456789"))
    return ArraySource(large.expand(-1, 3, -1, -1).numpy()[rows], truth.take(rows), spec=spec.text, names=[f"digit {row}" for row in rows])


class PhotoSource(RenderedSource):
    """Random crops of a single photograph, for learning from one image.

    Args:
        name: a photograph of scikit-image, or a path.
        count: number of crops.
        size: training size; crops are ``ceil(4/3 size)`` pixels on a side.
        seed: seed of the crops.
        crop: random squares of at least a quarter of the largest square's area; otherwise every row is the largest central square.
        spec: the user's name for the data set.

    Raises:
        UsageError: no such photograph, or size or count is below 1.
        DataError: it cannot be read.
    """

    def __init__(self, name: str, *, count: int, size: int = 64, seed: int = 0, crop: bool = True, spec: str = "photo") -> None:
        if count < 1 or size < 1:
            raise UsageError(f"{spec} has {count} images of {size} px.", "Both numbers must be 1 or more.")
        side = -(-size * 4 // 3)
        super().__init__(spec, count, (side, side))
        self.name, self.seed, self.crop = name, seed, crop
        self.photograph = photograph(name)

    def identity(self) -> object:
        return (self.name, self.count, self.shape, self.seed, self.crop, self.photograph.shape, int(self.photograph.sum()))

    def render(self, rows: Rows) -> np.ndarray:
        """Crop and resize, antialiased."""
        from PIL import Image

        photograph_image = Image.fromarray(self.photograph.transpose(1, 2, 0))
        largest = min(photograph_image.size)
        out = np.empty((len(rows), 3, *self.shape), dtype=np.uint8)
        for index, row in enumerate(rows):
            numbers = np.random.Generator(np.random.PCG64(key(self.seed, int(row)))).random(3) if self.crop else np.array([1, 0.5, 0.5])
            side = largest * np.sqrt(0.25 + 0.75 * numbers[0])
            left, top = (np.array(photograph_image.size) - side) * numbers[1:]
            box = (left, top, min(left + side, photograph_image.width), min(top + side, photograph_image.height))
            out[index] = np.asarray(photograph_image.resize(self.shape, Image.Resampling.BILINEAR, box=box)).transpose(2, 0, 1)
        return out

    def truth(self, rows: Rows) -> Truth:
        """All rows belong to one group; there are no labels."""
        return Truth(groups=np.zeros(len(rows), dtype=np.int64))


def open_photo(spec: Spec, size: int | None) -> Source:
    """Random crops of one photograph; options count, size, seed and crop.

    Args:
        spec: ``photo:NAME`` or ``photo:PATH``.
        size: side of the crops in pixels; 64 by default.

    Raises:
        UsageError: an unknown option.
        DataError: there is no such photograph.
    """
    spec.allow("count", "size", "seed", "crop")
    name, count, side = spec.name, spec.number("count", 10_000), spec.number("size", size or 64)
    return PhotoSource(name, count=count, size=side, seed=spec.number("seed", 0), crop=spec.flag("crop", default=True), spec=spec.text)
