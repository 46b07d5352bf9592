"""Changes of a whole picture that are to be told: turns, warps, and what is painted into a part of it."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from selfsight.core.clock import Clock
from selfsight.core.method import Drawn, Frame
from selfsight.core.views import Images, Views
from selfsight.data.views.chance import KeyedRandom
from selfsight.data.views.image.damage import SYMMETRIC
from selfsight.data.views.image.geometry import Normalise, some_turned
from selfsight.data.views.image.recipes import PLAIN, View

__all__ = ["Changed", "pasted", "patch_at", "warped"]

_KIND, _WARP, _CORNER, _AUTO = range(40, 44)


def warped(
    images: Float[Tensor, "batch channel side side"], field: Float[Tensor, "batch 2 points points"]
) -> Float[Tensor, "batch channel side side"]:
    """Images bent smoothly: the displacement of control points, in fractions of half the side, interpolated between them."""
    side = images.shape[2]
    still = torch.eye(2, 3, device=images.device, dtype=images.dtype).expand(len(images), 2, 3)
    grid = affine_grid(still, [len(images), 1, side, side], align_corners=False)
    moved = interpolate(field.to(images), (side, side), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    return grid_sample(images, grid + moved, mode="bilinear", padding_mode="reflection", align_corners=False)


def _places(corner: Int[Tensor, "batch 2"], side: int, of: int) -> Int[Tensor, "batch cell"]:
    """The places of a square in a picture that is written row by row; corners are left, top."""
    line = torch.arange(side, device=corner.device)
    rows, columns = corner[:, 1:, None] + line[:, None], corner[:, :1, None] + line
    return (rows * of + columns).flatten(1)


def patch_at(
    images: Float[Tensor, "batch channel height width"], corner: Int[Tensor, "batch 2"], side: int
) -> Float[Tensor, "batch channel side side"]:
    """A square of each image, whose left top corner is given in pixels."""
    places = _places(corner, side, images.shape[3])
    return images.flatten(2).gather(2, places[:, None].expand(-1, images.shape[1], -1)).unflatten(2, (side, side))


def pasted(
    images: Float[Tensor, "batch channel height width"], patch: Float[Tensor, "batch channel side side"], corner: Int[Tensor, "batch 2"]
) -> Float[Tensor, "batch channel height width"]:
    """Each image with a square put in; the gradient flows into the square and what is left of the image."""
    places = _places(corner, patch.shape[2], images.shape[3])[:, None].expand(-1, images.shape[1], -1)
    return images.flatten(2).scatter(2, places, patch.flatten(2).to(images.dtype)).view_as(images)


@dataclass(frozen=True)
class Changed:
    """A view that is as it was, or is to be painted into, or is turned, or warped (LCI, Jenni et al. 2020, arXiv:2004.02331).

    Views: one large one, already turned or warped. Hints: ``kind`` (batch x 1: 0 untouched, 1 to be painted into, 2 to 4 turned by as
    many right angles less one, 5 warped; alike), ``corner`` (batch x 1 x 2: left and top of a square in pixels), ``coded`` (batch x 1:
    of half of the untouched ones that square is to be coded and decoded), ``crop``, ``flip``, ``colour``.

    Attributes:
        view: how the picture is cut.
        side: of the square, as a share of the view's.
        bend: largest displacement of a control point, as a share of the view's side.
    """

    view: View = PLAIN
    side: float = 0.5
    bend: float = 1 / 16
    normalise: Normalise = SYMMETRIC

    def draw(self, n: int, clock: Clock, frame: Frame) -> Drawn:
        """The parameters of the view, the change, the warp and the square."""
        dice = KeyedRandom(n, clock, (0,))
        spare = frame.size - round(self.side * frame.size)
        values = {
            "kind": (dice.at(_KIND).uniform(1) * 6).long(),
            "field": dice.at(_WARP).uniform(2, 4, 4, low=-2 * self.bend, high=2 * self.bend),
            "corner": (dice.at(_CORNER).uniform(2) * (spare + 1)).long(),
            "coded": dice.at(_AUTO).uniform(1) < 0.5,
        }
        return Drawn(self.view.draw(dice) | {f"change {name}": value for name, value in values.items()}, frame)

    def make(self, images: Images, drawn: Drawn) -> Views:
        """The changed view."""
        device = images.pixels.device
        kind, field, corner, coded = (drawn.values[f"change {name}"].to(device) for name in ("kind", "field", "corner", "coded"))
        made, hints = self.view.make(images, drawn.values, drawn.frame.size, self.normalise)
        which = kind[:, 0]
        made = some_turned(made, torch.where((which >= 2) & (which <= 4), which - 1, 0))
        made = torch.where((which == 5)[:, None, None, None], warped(made, field), made)
        kept = {name: value[:, None] for name, value in hints.items()} | {
            "kind": kind,
            "corner": corner[:, None],
            "coded": coded & (kind == 0),
        }
        return Views((made,), index=images.index, hints=kept)
