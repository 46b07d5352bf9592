"""The rendered world as a source."""

import numpy as np
import torch

from selfsight.core.errors import UsageError
from selfsight.data.listing import digest
from selfsight.data.readers.memory import RenderedSource
from selfsight.data.source import Rows, Truth
from selfsight.data.worlds.known import world_truth
from selfsight.data.worlds.shapes import SPLITS, VERSION, Preset, Scenes, draw, paint

__all__ = ["ShapesWorld"]


class ShapesWorld(RenderedSource):
    """Scenes of one preset as a source. One core renders about 8,000 images per second at 32 px and 600 at 96 px.

    Ground truth: ``labels`` (class of the first object), ``boxes``, ``masks``, ``parts`` (2k - 1 and 2k are the two parts of object k),
    ``keypoints`` (object after object), and attributes: x and y (pixels), scale, angle (radians, clockwise), value, hue, texture of the
    first object; background, ground, light, objects and occluder of the scene.

    Args:
        preset: distribution of the scenes.
        count: number of scenes.
        size: side in pixels.
        seed: seed of all random numbers.
        split: train, test, val or, for a preset with a cue, decorrelated; they share no scene.
        spec: the user's name for the data set.

    Raises:
        UsageError: no such split, or size or count is too small.
    """

    def __init__(
        self, preset: Preset, *, count: int, size: int = 32, seed: int = 0, split: str = "train", spec: str = "world:shapes"
    ) -> None:
        if split not in SPLITS or (split == "decorrelated" and not preset.cue):
            raise UsageError(f"{spec} has no split {split!r}.", "Use train, val or test; decorrelated with preset=shortcut only.")
        if count < 1 or size < 8:
            raise UsageError(f"{spec} has {count} scenes of {size} px.", "Use 1 or more scenes of 8 px or more.")
        super().__init__(spec, count, (size, size))
        self.preset, self.size, self.seed, self.split = preset, size, seed, split

    @property
    def fingerprint(self) -> str:
        fields_of_0_1 = repr(self.identity()).replace("background_value=", "ground=").replace("background_grain=", "ground_grain=")
        return digest((type(self).__name__, fields_of_0_1))

    def identity(self) -> object:
        return (VERSION, self.preset, self.count, self.size, self.seed, self.split)

    def scenes(self, rows: Rows) -> Scenes:
        """Parameters of these rows' scenes."""
        return draw(self.preset, self.seed, self.split, np.asarray(rows, dtype=np.int64))

    def render(self, rows: Rows) -> np.ndarray:
        """Render these rows."""
        parts = [paint(self.preset, self.scenes(part), self.size) for part in _portions(rows, self.size)]
        return (torch.cat(parts) * 255).round().to(torch.uint8).numpy()

    def truth(self, rows: Rows) -> Truth:
        """Complete ground truth of these rows."""
        return world_truth(self, np.asarray(rows, dtype=np.int64))


def _portions(rows: Rows, size: int) -> list[np.ndarray]:
    """Split rows into portions that keep the working memory near 100 MB."""
    rows = np.asarray(rows, dtype=np.int64)
    return np.array_split(rows, max(1, -(-len(rows) * size * size // 262_144)))
