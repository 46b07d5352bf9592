"""``world:shapes``: lit, textured objects on textured backgrounds, with complete ground truth.

Version 1, frozen. Every scene is a pure function of (preset, seed, split, row, size): sample i is the same for any count.

Difficulty of the default preset at 32 px, with 10,000 scenes of seed 501 and 2,000 of seed 502, by weighted k-NN (k 20, T 0.07): pixels
28.6 %, an untrained residual network of 1.2 M parameters 22.1 %, SimCLR after eight epochs (crops of at least half the area, batch 256)
46.4 %; the same network trained with labels for four epochs classifies 99.8 % itself. Pixels are a weak feature mainly because of the
lighting gradient, to which methods with colour augmentation and crops are invariant.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from selfsight.core.clock import key
from selfsight.data.source import Rows
from selfsight.data.worlds import outlines, textures

__all__ = ["PRESETS", "SPLITS", "VERSION", "Preset", "Scenes"]

VERSION = 1
SPLITS = {"train": 0, "test": 1, "val": 2, "decorrelated": 3}
Span = tuple[float | int, float | int]


@dataclass(frozen=True)
class Preset:
    """Distribution of scenes. Ranges are (minimum, maximum) of uniform distributions.

    Attributes:
        objects: number of objects.
        scale: span of an object, as a fraction of the image's side.
        turn: maximum rotation to either side, in radians.
        squash: maximum stretch along one of the object's axes, with the inverse along the other, as a logarithm.
        jitter: maximum offset of objects from the centre of their cell, as a fraction of what keeps them inside.
        background_value: brightness of the background, 0 to 1.
        contrast: difference in brightness between object and background.
        saturation: saturation of the colours of object and background, 0 to 1; hues are uniform.
        grain: strength of the object's texture, as a standard deviation of brightness.
        background_grain: strength of the background's texture.
        tint: fraction of the textures' own colour that is kept, 0 to 1.
        relief: strength of the shading of objects by a light from the side.
        slope: difference in brightness between the side that faces the light and the opposite one.
        tone: maximum difference in brightness between an object's two parts, in either direction.
        occluder: probability of a bar in front.
        cue: probability that the background's texture and hue depend on the class (a shortcut).
    """

    objects: tuple[int, int] = (1, 1)
    scale: Span = (0.4, 0.55)
    turn: float = 0.55
    squash: float = 0.0
    jitter: float = 1.0
    background_value: Span = (0.42, 0.58)
    contrast: Span = (0.22, 0.38)
    saturation: Span = (0.0, 0.0)
    grain: Span = (0.02, 0.04)
    background_grain: Span = (0.005, 0.02)
    tint: float = 0.3
    relief: float = 0.05
    slope: Span = (0.35, 0.65)
    tone: float = 0.1
    occluder: float = 0.0
    cue: float = 0.0


PRESETS = {
    "learnable": Preset(),
    "coloured": Preset(
        scale=(0.35, 0.6), turn=0.8, squash=0.2, background_value=(0.25, 0.75), contrast=(0.1, 0.3), saturation=(0.4, 0.9),
        grain=(0.08, 0.16), background_grain=(0.1, 0.2), tint=1.0, relief=0.12, slope=(0.0, 0.2), tone=0.2, occluder=0.3,
    ),
    "shortcut": Preset(
        background_value=(0.35, 0.65), saturation=(0.3, 0.6), grain=(0.02, 0.05), background_grain=(0.08, 0.14), tint=1.0, relief=0.12,
        slope=(0.0, 0.2), cue=0.95,
    ),
    "many": Preset(
        objects=(2, 4), scale=(0.22, 0.34), turn=0.6, saturation=(0.0, 0.3), grain=(0.02, 0.05), background_grain=(0.01, 0.03),
        relief=0.12, slope=(0.1, 0.3),
    ),
}  # fmt: skip
"""The first is the default; with ``coloured``, joint-embedding methods learn the background instead of the shape."""


@dataclass(frozen=True)
class Scenes:
    """Parameters of some scenes, with objects in the second dimension. Lengths are fractions of the image's side.

    Attributes:
        count: number of objects in the scene.
        shape: class of each object.
        x: horizontal position of the centre.
        y: vertical position of the centre.
        scale: span.
        angle: clockwise rotation in radians.
        squash: horizontal stretch, with the inverse vertically.
        value: brightness of the object.
        hue: hue of the object.
        saturation: saturation of the object.
        texture: texture of the object.
        grain: strength of the object's texture.
        tone: difference in brightness between the second part and the first.
        light: direction of the light in radians.
        slope: difference in brightness between the two sides.
        background_value: brightness of the background.
        background_hue: hue of the background.
        background_saturation: saturation of the background.
        background_texture: texture of the background.
        background_grain: strength of the background's texture.
        offset: position and rotation of the textures (background first).
        bar: whether there is an occluder, its direction, distance from the centre, half width and brightness.
    """

    count: Int[Tensor, " batch"]
    shape: Int[Tensor, "batch object"]
    x: Float[Tensor, "batch object"]
    y: Float[Tensor, "batch object"]
    scale: Float[Tensor, "batch object"]
    angle: Float[Tensor, "batch object"]
    squash: Float[Tensor, "batch object"]
    value: Float[Tensor, "batch object"]
    hue: Float[Tensor, "batch object"]
    saturation: Float[Tensor, "batch object"]
    texture: Int[Tensor, "batch object"]
    grain: Float[Tensor, "batch object"]
    tone: Float[Tensor, "batch object"]
    light: Float[Tensor, " batch"]
    slope: Float[Tensor, " batch"]
    background_value: Float[Tensor, " batch"]
    background_hue: Float[Tensor, " batch"]
    background_saturation: Float[Tensor, " batch"]
    background_texture: Int[Tensor, " batch"]
    background_grain: Float[Tensor, " batch"]
    offset: Float[Tensor, "batch place 3"]
    bar: Float[Tensor, "batch 5"]


_PER_SCENE, _PER_OBJECT = 20, 17


def random_numbers(seed: int, rows: Rows, count: int) -> Float[np.ndarray, "row count"]:
    """Uniform numbers in [0, 1), a pure function of seed, row and column (SplitMix64, as ``core.clock.key``).

    Args:
        seed: seed of the numbers.
        rows: row numbers (N,).
        count: numbers per row.
    """
    state = np.full((len(rows), 1), key(seed), dtype=np.uint64)
    for part in (rows.astype(np.uint64)[:, None], np.arange(count, dtype=np.uint64)[None]):
        state = (state ^ part) + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ state >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ state >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        state = state ^ state >> np.uint64(31)
    return (state >> np.uint64(11)).astype(np.float64) / 2.0**53


def draw(preset: Preset, seed: int, split: str, rows: Rows) -> Scenes:
    """Draw the parameters of scenes, independently for each row.

    Args:
        preset: distribution of the scenes.
        seed: seed of the random numbers.
        split: key of ``SPLITS``.
        rows: row numbers (N,).
    """
    most = preset.objects[1]
    numbers = random_numbers(key(seed, SPLITS[split], VERSION), rows, _PER_SCENE + most * _PER_OBJECT)
    scene, each = torch.from_numpy(numbers[:, :_PER_SCENE]).float(), torch.from_numpy(numbers[:, _PER_SCENE:]).float()
    each = each.reshape(-1, most, _PER_OBJECT)
    count = (preset.objects[0] + scene[:, 0] * (most - preset.objects[0] + 1)).long().clamp(max=most)
    shape = (each[..., 0] * len(outlines.NAMES)).long()
    scale, angle = _span(preset.scale, each[..., 1]), (2 * each[..., 2] - 1) * preset.turn
    squash = torch.exp((2 * each[..., 16] - 1) * preset.squash)
    x, y = _centres(preset, scene, each, scale)
    background_value = _span(preset.background_value, scene[:, 1])
    step = _span(preset.contrast, each[..., 5])
    up = torch.where(each[..., 6] < 0.5, 1.0, -1.0)
    beyond_range = (background_value[:, None] + up * step - 0.5).abs() > 0.45
    up = torch.where(beyond_range, -up, up)
    background_texture = (scene[:, 4] * len(textures.NAMES)).long()
    background_hue = scene[:, 2]
    if preset.cue and split != "decorrelated":
        has_cue = scene[:, 5] < preset.cue
        background_texture = torch.where(has_cue, shape[:, 0], background_texture)
        background_hue = torch.where(has_cue, (shape[:, 0] + 0.5 * scene[:, 2]) / len(outlines.NAMES), background_hue)
    bar = torch.stack([(scene[:, 7] < preset.occluder).float(), *(scene[:, 8:12].unbind(1))], dim=1)
    return Scenes(
        count, shape, x, y, scale, angle, squash,
        value=background_value[:, None] + up * step, hue=each[..., 7], saturation=_span(preset.saturation, each[..., 8]),
        texture=(each[..., 9] * len(textures.NAMES)).long(), grain=_span(preset.grain, each[..., 10]),
        tone=(2 * each[..., 15] - 1) * preset.tone, light=scene[:, 6] * 2 * torch.pi, slope=_span(preset.slope, scene[:, 17]),
        background_value=background_value, background_hue=background_hue, background_saturation=_span(preset.saturation, scene[:, 3]),
        background_texture=background_texture, background_grain=_span(preset.background_grain, scene[:, 12]),
        offset=torch.cat([scene[:, None, 13:16], each[..., 11:14]], dim=1), bar=bar,
    )  # fmt: skip


def _span(span: Span, chance: Tensor) -> Tensor:
    return span[0] + (span[1] - span[0]) * chance


def _centres(preset: Preset, scene: Tensor, each: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Centres: a single object anywhere inside; several objects in different cells of a square grid, in random order."""
    most = preset.objects[1]
    cells = 1 if most == 1 else int(np.ceil(np.sqrt(most)))
    order = each[..., 14].argsort(dim=1) if most > 1 else torch.zeros(len(each), 1, dtype=torch.long)
    shift = (scene[:, 16:17] * cells * cells).long()
    cell = (order + shift) % (cells * cells)
    slack = (1 / cells - scale).clamp(min=0) / 2 * preset.jitter
    x = (cell % cells + 0.5) / cells + (2 * each[..., 3] - 1) * slack
    y = (cell // cells + 0.5) / cells + (2 * each[..., 4] - 1) * slack
    return x, y


def paint(preset: Preset, scenes: Scenes, size: int) -> Float[Tensor, "batch 3 height width"]:
    """Render scenes to pixels in [0, 1], objects in order from back to front.

    Args:
        preset: distribution that the scenes were drawn from.
        scenes: parameters of N scenes.
        size: side in pixels.

    Returns:
        (N, 3, size, size).
    """
    axis = (torch.arange(size) + 0.5) / size
    texels = textures.tile_side(size)
    across = axis[None, None, :].expand(len(scenes.count), size, size)
    down = across.transpose(1, 2)
    image = _colour(scenes.background_value, scenes.background_hue, scenes.background_saturation)
    image = image + _grain(
        preset.tint, scenes.background_texture, scenes.background_grain, scenes.offset[:, 0], across * size, down * size, texels
    )
    for number in range(scenes.shape.shape[1]):
        projected = project_object(scenes, number, size)
        maps = projected.maps
        turn = scenes.angle[:, number]
        shading = torch.cos(scenes.light - turn)[:, None, None] * maps[1] + torch.sin(scenes.light - turn)[:, None, None] * maps[2]
        body = _colour(scenes.value[:, number], scenes.hue[:, number], scenes.saturation[:, number])
        stretch = (scenes.scale[:, number] * size / 2)[:, None, None]
        grain = _grain(
            preset.tint, scenes.texture[:, number], scenes.grain[:, number], scenes.offset[:, 1 + number],
            projected.u * stretch, projected.v * stretch, texels,
        )  # fmt: skip
        body = body + grain + (scenes.tone[:, number, None, None] * (maps[3] - 0.5) - preset.relief * shading)[:, None]
        image = image + projected.cover[:, None] * (body - image)
    gradient = torch.cos(scenes.light)[:, None, None] * (across - 0.5) + torch.sin(scenes.light)[:, None, None] * (down - 0.5)
    image = image + (scenes.slope[:, None, None] * gradient)[:, None]
    image = torch.lerp(image, scenes.bar[:, 4, None, None, None], bar(scenes, size)[:, None])
    return image.clamp(0, 1)


def _grain(
    tint: float, which: Tensor, strength: Tensor, offset: Tensor, x: Tensor, y: Tensor, texels: int
) -> Float[Tensor, "batch 3 height width"]:
    turn = (offset[:, 2] * 2 * torch.pi)[:, None, None]
    cosine, sine = torch.cos(turn), torch.sin(turn)
    left, top = (offset[:, :2] * 2 * texels)[:, :, None, None].unbind(1)
    found = textures.sample(which, cosine * x - sine * y + left, sine * x + cosine * y + top, texels)
    grey = found.mean(dim=1, keepdim=True)
    return strength[:, None, None, None] * (grey + tint * (found - grey))


def _colour(value: Tensor, hue: Tensor, saturation: Tensor) -> Float[Tensor, "batch 3 1 1"]:
    """A colour of this brightness: three cosines, a third of a turn apart, so that hue does not change the mean."""
    angle = 2 * torch.pi * (hue[:, None] - torch.arange(3) / 3)
    reach = torch.minimum(value, 1 - value).clamp(min=0)
    return (value[:, None] + (saturation * reach)[:, None] * torch.cos(angle))[:, :, None, None]


@dataclass(frozen=True)
class ProjectedObject:
    """One object of each scene, projected onto the image.

    Attributes:
        u: horizontal object coordinate, -1 to 1 over the object.
        v: vertical object coordinate.
        cover: fraction of each pixel that the object covers; 0 where the scene has fewer objects.
        maps: maps of its outline, see ``outlines.atlas``.
    """

    u: Float[Tensor, "batch height width"]
    v: Float[Tensor, "batch height width"]
    cover: Float[Tensor, "batch height width"]
    maps: Float[Tensor, "4 batch height width"]


def project_object(scenes: Scenes, place: int, size: int) -> ProjectedObject:
    """Project one object of each scene onto images.

    Args:
        scenes: parameters of N scenes.
        place: index of the object.
        size: side in pixels.
    """
    axis = (torch.arange(size) + 0.5) / size
    radius = scenes.scale[:, place] / 2
    x = (axis[None, None, :] - scenes.x[:, place, None, None]) / radius[:, None, None]
    y = (axis[None, :, None] - scenes.y[:, place, None, None]) / radius[:, None, None]
    cosine, sine = torch.cos(scenes.angle[:, place])[:, None, None], torch.sin(scenes.angle[:, place])[:, None, None]
    stretch = scenes.squash[:, place, None, None]
    u, v = (cosine * x + sine * y) / stretch, (cosine * y - sine * x) * stretch
    maps = _outline(scenes.shape[:, place], u, v)
    cover = (0.5 - maps[0] * (radius * size)[:, None, None]).clamp(0, 1)
    return ProjectedObject(u, v, cover * (place < scenes.count)[:, None, None], maps)


def _outline(which: Tensor, u: Tensor, v: Tensor) -> Float[Tensor, "4 batch height width"]:
    bank, edge = outlines.atlas(), 1 / outlines.TILE
    x = (u / outlines.REACH).clamp(-1 + edge, 1 - edge)
    y = ((v / outlines.REACH).clamp(-1 + edge, 1 - edge) + 1 + 2 * which[:, None, None]) / len(outlines.NAMES) - 1
    batch, height, width = u.shape
    grid = torch.stack([x, y], dim=-1).reshape(1, batch * height, width, 2)
    return torch.nn.functional.grid_sample(bank, grid, align_corners=False).reshape(4, batch, height, width)


def bar(scenes: Scenes, size: int) -> Float[Tensor, "batch height width"]:
    """Fraction of each pixel that the occluder covers.

    Args:
        scenes: parameters of N scenes.
        size: side in pixels.
    """
    axis = (torch.arange(size) + 0.5) / size - 0.5
    turn = (scenes.bar[:, 1] * torch.pi)[:, None, None]
    distance = torch.cos(turn) * axis[None, None, :] + torch.sin(turn) * axis[None, :, None]
    distance = (distance - (scenes.bar[:, 2, None, None] - 0.5) * 0.4).abs() - (0.04 + 0.05 * scenes.bar[:, 3, None, None])
    return (0.5 - distance * size).clamp(0, 1) * scenes.bar[:, 0, None, None]
