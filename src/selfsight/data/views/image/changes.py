"""Image transformations that a network has to recognise: rotation, warping, inpainting."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from selfsight.core.clock import Clock
from selfsight.core.method import Drawn, Frame
from selfsight.core.views import Images, Views
from selfsight.data.views.image.damage import SYMMETRIC
from selfsight.data.views.image.geometry import Normalise, rotate_each
from selfsight.data.views.image.recipes import PLAIN, View
from selfsight.data.views.keyed_random import KeyedRandom

__all__ = ["Changed", "pasted", "patch_at", "warped"]

_KIND, _WARP, _CORNER, _AUTO = range(40, 44)


def warped(
    images: Float[Tensor, "batch channel side side"], field: Float[Tensor, "batch 2 points points"]
) -> Float[Tensor, "batch channel side side"]:
    """Smooth random warp: bicubic interpolation of the displacements of control points.

    Args:
        images: (N, C, S, S).
        field: displacement (N, 2, P, P) of control points in x and y, in units of half the side.
    """
    side = images.shape[2]
    identity = torch.eye(2, 3, device=images.device, dtype=images.dtype).expand(len(images), 2, 3)
    grid = affine_grid(identity, [len(images), 1, side, side], align_corners=False)
    displacement = interpolate(field.to(images), (side, side), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    return grid_sample(images, grid + displacement, mode="bilinear", padding_mode="reflection", align_corners=False)


def _cells(corner: Int[Tensor, "batch 2"], side: int, of: int) -> Int[Tensor, "batch cell"]:
    """Flat indices of the pixels of a square in an image; corners are (left, top)."""
    line = torch.arange(side, device=corner.device)
    rows, columns = corner[:, 1:, None] + line[:, None], corner[:, :1, None] + line
    return (rows * of + columns).flatten(1)


def patch_at(
    images: Float[Tensor, "batch channel height width"], corner: Int[Tensor, "batch 2"], side: int
) -> Float[Tensor, "batch channel side side"]:
    """Crop a square from each image.

    Args:
        images: (N, C, H, W).
        corner: left and top (N, 2) of the square in pixels.
        side: side of the square in pixels.
    """
    cells = _cells(corner, side, images.shape[3])
    return images.flatten(2).gather(2, cells[:, None].expand(-1, images.shape[1], -1)).unflatten(2, (side, side))


def pasted(
    images: Float[Tensor, "batch channel height width"], patch: Float[Tensor, "batch channel side side"], corner: Int[Tensor, "batch 2"]
) -> Float[Tensor, "batch channel height width"]:
    """Paste a square into each image; gradients flow into the square and the rest of the image.

    Args:
        images: (N, C, H, W).
        patch: squares (N, C, S, S).
        corner: left and top (N, 2) of the square in pixels.
    """
    cells = _cells(corner, patch.shape[2], images.shape[3])[:, None].expand(-1, images.shape[1], -1)
    return images.flatten(2).scatter(2, cells, patch.flatten(2).to(images.dtype)).view_as(images)


@dataclass(frozen=True)
class Changed:
    """A view that is unchanged, inpainted, rotated or warped (LCI, Jenni et al. 2020, arXiv:2004.02331).

    Views: one large one, rotated or warped already. Hints: ``kind`` (N, 1; 0 unchanged, 1 to be inpainted, 2 to 4 rotated by 1 to 3 right
    angles, 5 warped; all equally likely), ``corner`` (N, 1, 2; left and top of a square in pixels), ``coded`` (N, 1; true for half of the
    unchanged images, whose square is encoded and decoded), ``crop``, ``flip``, ``colour``.

    Attributes:
        view: augmentation.
        side: side of the square as a fraction of the view's.
        bend: maximum displacement of a control point as a fraction of the view's side.
        normalise: mean and standard deviation of the pixels.
    """

    view: View = PLAIN
    side: float = 0.5
    bend: float = 1 / 16
    normalise: Normalise = SYMMETRIC

    def draw(self, n: int, clock: Clock, frame: Frame) -> Drawn:
        random = KeyedRandom(n, clock, (0,))
        spare = frame.size - round(self.side * frame.size)
        values = {
            "kind": (random.at(_KIND).uniform(1) * 6).long(),
            "field": random.at(_WARP).uniform(2, 4, 4, low=-2 * self.bend, high=2 * self.bend),
            "corner": (random.at(_CORNER).uniform(2) * (spare + 1)).long(),
            "coded": random.at(_AUTO).uniform(1) < 0.5,
        }
        return Drawn(self.view.draw(random) | {f"change {name}": value for name, value in values.items()}, frame)

    def make(self, images: Images, drawn: Drawn) -> Views:
        device = images.pixels.device
        kind, field, corner, coded = (drawn.values[f"change {name}"].to(device) for name in ("kind", "field", "corner", "coded"))
        made, hints = self.view.make(images, drawn.values, drawn.frame.size, self.normalise)
        kind_of_image = kind[:, 0]
        made = rotate_each(made, torch.where((kind_of_image >= 2) & (kind_of_image <= 4), kind_of_image - 1, 0))
        made = torch.where((kind_of_image == 5)[:, None, None, None], warped(made, field), made)
        all_hints = {name: value[:, None] for name, value in hints.items()} | {
            "kind": kind,
            "corner": corner[:, None],
            "coded": coded & (kind == 0),
        }
        return Views((made,), index=images.index, hints=all_hints)
