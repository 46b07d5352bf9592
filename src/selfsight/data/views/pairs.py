"""What recipes of images, clips and sounds share: parameters of several views in one table, and pairs of views."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from selfsight.core.clock import Clock
from selfsight.core.method import Drawn
from selfsight.core.views import Images, Views
from selfsight.data.views.image.geometry import Normalise
from selfsight.data.views.keyed_random import KeyedRandom

__all__ = ["DrawnView", "View", "draw_views", "make_pair", "of_view", "prefixed"]


@runtime_checkable
class DrawnView(Protocol):
    """A view that draws its own random parameters."""

    def draw(self, random: KeyedRandom) -> dict[str, Tensor]:
        """Random parameters for a global batch, one row per sample."""
        ...


@runtime_checkable
class View(DrawnView, Protocol):
    """A view that makes pixels or log-mel values without normalisation."""

    def make(self, images: Images, drawn: Mapping[str, Tensor], size: int) -> Float[Tensor, "batch channel *size"]:
        """The view of every sample.

        Args:
            images: a batch.
            drawn: parameters from ``draw``.
            size: in pixels or time steps.
        """
        ...


def prefixed(prefix: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The values with names ``prefix.name``.

    Args:
        prefix: name or number of a view.
        values: by name.
    """
    return {f"{prefix}.{name}": value for name, value in values.items()}


def of_view(prefix: str, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The values whose names begin with ``prefix.``, without it: the inverse of ``prefixed``.

    Args:
        prefix: name or number of a view.
        values: by prefixed name.
    """
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in values.items() if name.startswith(start)}


def draw_views(views: Sequence[DrawnView], n: int, clock: Clock) -> dict[str, Tensor]:
    """Random parameters of several views of a global batch; names begin with the number of the view.

    Args:
        views: the views.
        n: samples in the global batch.
        clock: seed and step.
    """
    return {
        name: value
        for number, view in enumerate(views)
        for name, value in prefixed(str(number), view.draw(KeyedRandom(n, clock, (number,)))).items()
    }


def make_pair(views: Sequence[View], images: Images, drawn: Drawn, normalise: Normalise) -> Views:
    """Large views, normalised per channel.

    Args:
        views: the views.
        images: a batch.
        drawn: parameters from ``draw_views``.
        normalise: mean and standard deviation of each channel.
    """
    made = [view.make(images, of_view(str(number), drawn.values), drawn.frame.size) for number, view in enumerate(views)]
    shape = (-1, *(1,) * (images.pixels.ndim - 2))
    mean, std = (one.reshape(shape) for one in normalise.tensors(images.pixels.shape[1], images.pixels.device))
    return Views(tuple((one - mean) / std for one in made), index=images.index)
