"""Ground truth of rendered scenes, computed on demand."""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch

from selfsight.data.source import LazySequence, Rows, Truth
from selfsight.data.worlds import outlines, textures
from selfsight.data.worlds.shapes import Scenes, bar, project_object

__all__ = ["world_truth"]

_BLOCK = 64


class _Maps(NamedTuple):
    boxes: list[np.ndarray]
    masks: list[np.ndarray]
    parts: list[np.ndarray]
    keypoints: list[np.ndarray]


@runtime_checkable
class World(Protocol):
    """Input of the ground truth: the scenes of some rows, and the side of the images in pixels."""

    size: int

    def scenes(self, rows: Rows) -> Scenes:
        """Parameters of these rows' scenes."""
        ...


def world_truth(world: World, rows: np.ndarray) -> Truth:
    """Complete ground truth of these rows; maps and boxes are rendered lazily, block by block.

    Args:
        world: the rendered source.
        rows: rows of the source.
    """
    scenes = world.scenes(rows)
    blocks = _Blocks(world, rows)
    positions = np.arange(len(rows))
    return Truth(
        labels=scenes.shape[:, 0].numpy(),
        classes=outlines.NAMES,
        attributes=_attributes(scenes, world.size),
        boxes=LazySequence(blocks.boxes, positions),
        masks=LazySequence(blocks.masks, positions),
        parts=LazySequence(blocks.parts, positions),
        keypoints=LazySequence(blocks.keypoints, positions),
    )


def _attributes(scenes: Scenes, size: int) -> dict[str, np.ndarray]:
    return {
        "x": (scenes.x[:, 0] * size).numpy(),
        "y": (scenes.y[:, 0] * size).numpy(),
        "scale": scenes.scale[:, 0].numpy(),
        "angle": scenes.angle[:, 0].numpy(),
        "squash": scenes.squash[:, 0].numpy(),
        "value": scenes.value[:, 0].numpy(),
        "hue": scenes.hue[:, 0].numpy(),
        "texture": scenes.texture[:, 0].numpy(),
        "background": scenes.background_texture.numpy(),
        "ground": scenes.background_value.numpy(),
        "light": scenes.light.numpy(),
        "objects": scenes.count.numpy(),
        "occluder": scenes.bar[:, 0].bool().numpy(),
        "texture_name": np.array(textures.NAMES, dtype=object)[scenes.texture[:, 0].numpy()],
        "background_name": np.array(textures.NAMES, dtype=object)[scenes.background_texture.numpy()],
    }


class _Blocks:
    """Maps of some rows, rendered 64 at a time; the last block is cached."""

    def __init__(self, world: World, rows: np.ndarray) -> None:
        self.world, self.rows, self._number = world, rows, -1
        self._last: _Maps | None = None

    def _block(self, place: int) -> tuple[_Maps, int]:
        number, within = divmod(place, _BLOCK)
        if self._last is None or number != self._number:
            scenes = self.world.scenes(self.rows[number * _BLOCK : (number + 1) * _BLOCK])
            self._last, self._number = _maps(scenes, self.world.size), number
        return self._last, within

    def boxes(self, place: int) -> np.ndarray:
        found, within = self._block(place)
        return found.boxes[within]

    def masks(self, place: int) -> np.ndarray:
        found, within = self._block(place)
        return found.masks[within]

    def parts(self, place: int) -> np.ndarray:
        found, within = self._block(place)
        return found.parts[within]

    def keypoints(self, place: int) -> np.ndarray:
        found, within = self._block(place)
        return found.keypoints[within]


def _maps(scenes: Scenes, size: int) -> _Maps:
    masks = torch.zeros(len(scenes.count), size, size, dtype=torch.uint8)
    parts = torch.zeros_like(masks)
    for number in range(scenes.shape.shape[1]):
        projected = project_object(scenes, number, size)
        covered = projected.cover > 0.5
        masks = torch.where(covered, number + 1, masks).to(torch.uint8)
        parts = torch.where(covered, 2 * number + 1 + (projected.maps[3] > 0.5), parts).to(torch.uint8)
    hidden = bar(scenes, size) > 0.5
    flat, visible_parts = masks.masked_fill(hidden, 0).numpy(), parts.masked_fill(hidden, 0).numpy()
    rows = range(len(flat))
    boxes = [_boxes(flat[row], scenes.shape[row, : int(scenes.count[row])].numpy()) for row in rows]
    points = [_keypoints(scenes, row, flat[row]) for row in rows]
    return _Maps(boxes, list(flat), list(visible_parts), points)


def _boxes(mask: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """One row per object; an object that is not visible has an empty box at the origin."""
    boxes = np.zeros((len(classes), 5), dtype=np.float32)
    for number, label in enumerate(classes):
        down, across = np.nonzero(mask == number + 1)
        span = (across.min(), down.min(), across.max() + 1, down.max() + 1) if len(down) else (0, 0, 0, 0)
        boxes[number] = (*span, label)
    return boxes


def _keypoints(scenes: Scenes, row: int, mask: np.ndarray) -> np.ndarray:
    """Landmarks of every object; visible where the object itself is visible at that pixel."""
    size, found = len(mask), []
    for number in range(int(scenes.count[row])):
        stretch = float(scenes.squash[row, number])
        landmarks = np.array(outlines.OUTLINES[outlines.NAMES[int(scenes.shape[row, number])]].landmarks) * (stretch, 1 / stretch)
        angle, scale = float(scenes.angle[row, number]), float(scenes.scale[row, number]) / 2
        rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        centre = np.array([float(scenes.x[row, number]), float(scenes.y[row, number])])
        points = (centre + scale * landmarks @ rotation) * size
        column, line = points.astype(np.int64).clip(0, size - 1).T
        inside = ((points >= 0) & (points < size)).all(axis=1)
        found.append(np.column_stack([points, inside & (mask[line, column] == number + 1)]))
    return np.concatenate(found).astype(np.float32)
