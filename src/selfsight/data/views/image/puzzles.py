"""Puzzles: images cut into tiles whose order or relative position has to be predicted."""

from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from selfsight.core.clock import Clock, key
from selfsight.core.errors import UsageError
from selfsight.core.method import Drawn, Frame
from selfsight.core.views import Images, Views
from selfsight.data.views.image.geometry import IMAGENET, Normalise
from selfsight.data.views.image.recipes import PLAIN, View
from selfsight.data.views.keyed_random import KeyedRandom

__all__ = ["Jigsaw", "Neighbours", "Overlapping", "cut_tiles", "permutation_set", "tile_side"]

_ORDER, _SHIFT = 20, 21


def tile_side(frame: Frame, across: int, gap: float) -> int:
    """Side of a tile in pixels: a puzzle cell less the gap, rounded down to a multiple of the backbone's stride.

    Args:
        frame: size of the image and stride of the backbone.
        across: tiles per side.
        gap: fraction of the cell that is left out.

    Raises:
        UsageError: a tile would be smaller than the backbone's stride.
    """
    side = int(frame.size / across * (1 - gap)) // frame.stride * frame.stride
    if side == 0:
        raise UsageError(
            f"A puzzle of {across} x {across} tiles leaves {frame.size // across} of {frame.size} pixels per tile, gap included; "
            f"the backbone's stride is {frame.stride}.",
            "Use larger images, fewer tiles or a smaller gap.",
        )
    return side


def cut_tiles(
    images: Num[Tensor, "batch channel side side"], across: int, tile: int, shift: Float[Tensor, "batch tiles 2"]
) -> Num[Tensor, "batch tiles channel tile tile"]:
    """Cut square tiles of an ``across`` x ``across`` puzzle, in raster order.

    Args:
        images: (N, C, S, S).
        across: tiles per side.
        tile: side of a tile in pixels.
        shift: position (N, T, 2) of each tile in its cell (x, y), in [0, 1); gap and jitter keep a network from matching edges.

    Returns:
        (N, T, C, tile, tile).
    """
    channels, side = images.shape[1], images.shape[2]
    cell = side // across
    corner = torch.stack([torch.arange(across * across) % across, torch.arange(across * across) // across], 1) * cell
    start = corner.to(images.device) + (shift * (cell - tile + 1)).floor().long()
    line = torch.arange(tile, device=images.device)
    rows, columns = start[..., 1, None] + line, start[..., 0, None] + line
    flat = (rows[..., :, None] * side + columns[..., None, :]).flatten(1)
    tiles = images.flatten(2).gather(2, flat[:, None].expand(-1, channels, -1))
    return tiles.view(len(images), channels, across * across, tile, tile).transpose(1, 2)


@lru_cache
def permutation_set(count: int, length: int = 9, seed: int = 0) -> Int[Tensor, "count length"]:
    """Permutations that are far apart in Hamming distance, chosen greedily (Noroozi and Favaro 2016, arXiv:1603.09246).

    Args:
        count: number of permutations.
        length: number of elements; above 7 the candidates are 20,000 random permutations, otherwise all.
        seed: seed of the candidates and of the first choice.

    Raises:
        UsageError: there are fewer candidates than ``count``.
    """
    if length <= 7:
        pool = torch.tensor(list(permutations(range(length))))
    else:
        pool = torch.rand(20_000, length, generator=torch.Generator().manual_seed(key(seed, length))).argsort(1)
    if count > len(pool):
        raise UsageError(f"There are {len(pool)} permutations of {length} tiles to choose from, not {count}.", "Use fewer permutations.")
    chosen = [key(seed, count) % len(pool)]
    nearest = torch.full((len(pool),), length + 1)
    for _ in range(count - 1):
        nearest = torch.minimum(nearest, (pool != pool[chosen[-1]]).sum(1))
        chosen.append(int(nearest.argmax()))
    return pool[chosen]


@dataclass(frozen=True)
class Jigsaw:
    """The tiles of an image in one order of a set of permutations (Noroozi and Favaro 2016, arXiv:1603.09246).

    Views: ``across``² large ones, the tiles in shuffled order. Hints: ``permutation`` (N, 1; index of the permutation), ``order`` (N,
    tiles; tile that each view shows), ``crop``, ``flip``, ``colour`` of the image that was cut.

    Attributes:
        view: augmentation.
        across: tiles per side.
        orders: number of permutations.
        gap: fraction of each cell that is left out.
        even: standardise each channel of each tile, so that brightness does not identify tiles.
        whole: the image is the one large view and the tiles are small views (PIRL).
        normalise: mean and standard deviation of the pixels.
    """

    view: View = PLAIN
    across: int = 3
    orders: int = 64
    gap: float = 0.25
    even: bool = False
    whole: bool = False
    normalise: Normalise = IMAGENET

    def draw(self, n: int, clock: Clock, frame: Frame) -> Drawn:
        random, tiles = KeyedRandom(n, clock, (0,)), self.across**2
        which = (random.at(_ORDER).uniform(1) * self.orders).long()
        drawn = {"permutation": which, "order": permutation_set(self.orders, tiles)[which[:, 0]]}
        return Drawn(self.view.draw(random) | {"shift": random.at(_SHIFT).uniform(tiles, 2), **_named(drawn)}, frame)

    def make(self, images: Images, drawn: Drawn) -> Views:
        device = images.pixels.device
        image, hints = self.view.make(images, drawn.values, drawn.frame.size, self.normalise)
        tile = tile_side(drawn.frame, self.across, self.gap)
        tiles = cut_tiles(image, self.across, tile, drawn.values["shift"].to(device))
        order = drawn.values["puzzle order"].to(device)
        tiles = _even(tiles) if self.even else tiles
        shuffled = tiles.gather(1, order[:, :, None, None, None].expand_as(tiles))
        hints = {name: value[:, None] for name, value in hints.items()}
        hints |= {"permutation": drawn.values["puzzle permutation"].to(device), "order": order}
        parts = tuple(part.contiguous() for part in shuffled.unbind(1))
        large, small = ((image,), parts) if self.whole else (parts, ())
        return Views(large, small, images.index, hints)


@dataclass(frozen=True)
class Neighbours:
    """The centre tile of nine and one of its eight neighbours (Doersch et al. 2015, arXiv:1505.05192).

    Views: two large ones. Hints: ``neighbour`` (N, 1; 0 to 7 in raster order), ``crop``, ``flip``, ``colour``.

    Attributes:
        view: augmentation.
        gap: fraction of each cell that is left out.
        even: as for ``Jigsaw``.
        normalise: mean and standard deviation of the pixels.
    """

    view: View = PLAIN
    gap: float = 0.33
    even: bool = False
    normalise: Normalise = IMAGENET

    def draw(self, n: int, clock: Clock, frame: Frame) -> Drawn:
        random = KeyedRandom(n, clock, (0,))
        which = {"neighbour": (random.at(_ORDER).uniform(1) * 8).long()}
        return Drawn(self.view.draw(random) | {"shift": random.at(_SHIFT).uniform(9, 2), **_named(which)}, frame)

    def make(self, images: Images, drawn: Drawn) -> Views:
        device = images.pixels.device
        image, hints = self.view.make(images, drawn.values, drawn.frame.size, self.normalise)
        tiles = cut_tiles(image, 3, tile_side(drawn.frame, 3, self.gap), drawn.values["shift"].to(device))
        tiles = _even(tiles) if self.even else tiles
        which = drawn.values["puzzle neighbour"].to(device)
        place = which[:, 0] + (which[:, 0] >= 4)  # skip the centre tile
        other = tiles[torch.arange(len(tiles), device=device), place]
        hints = {name: value[:, None] for name, value in hints.items()} | {"neighbour": which}
        return Views((tiles[:, 4].contiguous(), other), index=images.index, hints=hints)


@dataclass(frozen=True)
class Overlapping:
    """Overlapping square tiles of an image, in raster order (CPC, van den Oord et al. 2018, arXiv:1807.03748).

    Views: ``across``² large ones. Hints: ``crop``, ``flip``, ``colour`` of the image that was cut.

    Attributes:
        view: augmentation.
        across: tiles per side.
        share: side of a tile as a fraction of the image's, rounded to a multiple of the backbone's stride.
        even: as for ``Jigsaw``; brightness and colour cast that all tiles of an image share would identify the image.
        normalise: mean and standard deviation of the pixels.
    """

    view: View = PLAIN
    across: int = 7
    share: float = 0.25
    even: bool = False
    normalise: Normalise = IMAGENET

    def draw(self, n: int, clock: Clock, frame: Frame) -> Drawn:
        return Drawn(self.view.draw(KeyedRandom(n, clock, (0,))), frame)

    def make(self, images: Images, drawn: Drawn) -> Views:
        size, stride = drawn.frame.size, drawn.frame.stride
        image, hints = self.view.make(images, drawn.values, size, self.normalise)
        side = max(round(size * self.share / stride), 1) * stride
        corners = torch.linspace(0, size - side, self.across).round().long().tolist()
        cut = torch.stack([image[:, :, top : top + side, left : left + side] for top in corners for left in corners], 1)
        tiles = tuple(part.contiguous() for part in (_even(cut) if self.even else cut).unbind(1))
        return Views(tiles, index=images.index, hints={name: value[:, None] for name, value in hints.items()})


def _even(tiles: Float[Tensor, "batch tiles channel tile tile"]) -> Float[Tensor, "batch tiles channel tile tile"]:
    deviation, mean = torch.std_mean(tiles, (3, 4), keepdim=True)
    return (tiles - mean) / (deviation + 1e-5)


def _named(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Prefix the puzzle's parameters to keep them apart from the view's (colour jitter has an ``order`` too)."""
    return {f"puzzle {name}": value for name, value in values.items()}
