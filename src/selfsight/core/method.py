"""Methods and view recipes: the two things that make a way of learning."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from jaxtyping import Float, Int, Num
from torch import Tensor, nn

from selfsight.core.card import Card, Preset, Training
from selfsight.core.clock import Clock
from selfsight.core.errors import MissingHint
from selfsight.core.part import run_each
from selfsight.core.representation import Backbone
from selfsight.core.views import Images, Views

__all__ = [
    "Accompanied",
    "Drawn",
    "Extract",
    "Frame",
    "Freezes",
    "Method",
    "Outcome",
    "Recipe",
    "Relabels",
    "Supervised",
    "Turn",
    "Turns",
    "hint",
    "sample_index",
    "two_views",
]


@dataclass(frozen=True)
class Frame:
    """The picture that views are made for: side in pixels, pixels between cells of the backbone's grid, channels."""

    size: int
    stride: int
    channels: int = 3


@dataclass(frozen=True)
class Drawn:
    """The random parameters of a global batch of views, on the CPU: one row an image in every tensor."""

    values: Mapping[str, Num[Tensor, "batch ..."]]
    frame: Frame

    def map(self, change: Callable[[Tensor], Tensor]) -> "Drawn":
        """The same parameters with a function applied to each tensor: sliced to own rows, moved to a device."""
        return Drawn({name: change(value) for name, value in self.values.items()}, self.frame)


@runtime_checkable
class Recipe(Protocol):
    """How images become views. Implementations are frozen dataclasses."""

    def draw(self, n: int, clock: Clock, frame: Frame) -> Drawn:
        """Parameters of the whole global batch of ``n`` images, on the CPU, from ``key(clock.seed, clock.step)``."""
        ...

    def make(self, images: Images, drawn: Drawn) -> Views:
        """Pixels, on the device of the images, for this process's rows."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What one forward pass says.

    Attributes:
        losses: named terms, already weighted; their sum is minimised.
        signs: detached values for observers: ``embedding`` (batch x dim), ``assignment`` (batch x cluster probabilities),
            ``accuracy``, ``chance`` (the loss of a network that knows nothing, such as ln K).
    """

    losses: dict[str, Float[Tensor, ""]]
    diagnostics: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def loss(self) -> Float[Tensor, ""]:
        """The sum of the terms."""
        first, *rest = self.losses.values()
        return sum(rest, first)


class Method(nn.Module, ABC):
    """Turns the views of a batch into the terms of a loss.

    A subclass's ``__init__`` takes the backbone and then keywords with defaults; it keeps each keyword under its own name.
    """

    card: ClassVar[Card]
    paper: ClassVar[Training]
    small: ClassVar[Preset]
    backbone: Backbone
    recipe: Recipe

    def __init__(self, backbone: Backbone, recipe: Recipe) -> None:
        super().__init__()
        self.backbone, self.recipe = backbone, recipe

    @abstractmethod
    def forward(self, views: Views, clock: Clock) -> Outcome:
        """The loss of this process's rows of a global batch."""

    def through(self, views: Sequence[Num[Tensor, "batch channel *size"]], *links: nn.Module) -> list[Float[Tensor, "batch dim"]]:
        """The pooled features of every view, after the links; see ``run_each``."""
        return run_each((self.backbone, *links), views)

    def options(self) -> dict[str, Any]:
        """The keywords that would build this method again."""
        names = inspect.signature(type(self)).parameters
        return {name: getattr(self, name) for name in names if name != "backbone"}


@dataclass(frozen=True)
class Turn:
    """One move in a game between networks: who moves, and how often before the next."""

    name: str
    players: tuple[nn.Module, ...]
    steps: int = 1


Extract = Callable[[Callable[[Tensor], Tensor]], tuple[Tensor, Tensor]]
"""Passes over the training data with a network; returns the sample indices and the outputs, both in order of index."""


@runtime_checkable
class Relabels(Protocol):
    """A method that makes its own labels by passes over the data (DeepCluster, SeLa)."""

    def due(self, clock: Clock) -> bool:
        """Whether labels are to be made before this step."""
        ...

    def relabel(self, extract: Extract, clock: Clock) -> Iterable[nn.Module]:
        """Make labels; return the modules that were made anew, so that the optimiser forgets them."""
        ...


@runtime_checkable
class Turns(Protocol):
    """A method that is a game between networks; ``forward`` is called once a turn, with ``clock.turn``."""

    def turns(self) -> tuple[Turn, ...]:
        """The moves of one step, in order."""
        ...


@runtime_checkable
class Freezes(Protocol):
    """A method some of whose modules rest for a while (the prototypes of SwAV and DINO in the first epoch)."""

    def frozen(self, clock: Clock) -> tuple[nn.Module, ...]:
        """The modules that do not move in this step."""
        ...


@runtime_checkable
class Accompanied(Protocol):
    """A method that sees other samples beside those of the batch (SCAN's neighbours); their large views come after the batch's own."""

    def companions(self, index: Int[Tensor, " batch"], clock: Clock) -> Int[Tensor, " batch"]:
        """Another sample for each of these."""
        ...


@runtime_checkable
class Supervised(Protocol):
    """A labelled baseline: it alone is handed labels, as the hint ``label`` (batch x 1; -1 where unknown)."""

    supervised: ClassVar[Literal[True]]


def hint(views: Views, name: str, method: str) -> Tensor:
    """A hint that a method cannot do without.

    Raises:
        MissingHint: the recipe did not record it.
    """
    if name not in views.hints:
        known = ", ".join(sorted(views.hints)) or "none"
        raise MissingHint(
            f"{method} needs the hint {name!r} and was given: {known}.", "Use the method's default recipe, or one that records it."
        )
    return views.hints[name]


def sample_index(views: Views, method: str) -> Int[Tensor, " batch"]:
    """Which samples a batch holds, for a method that remembers every one of them.

    Raises:
        MissingHint: the views do not say.
    """
    if views.index is None:
        raise MissingHint(f"{method} needs Views.index, for it remembers every sample.", "Make the views with their index.")
    return views.index


def two_views(views: Views, method: str) -> tuple[Tensor, Tensor]:
    """The two large views that a method tells apart: damaged and clean, for one.

    Raises:
        MissingHint: there are not two.
    """
    if len(views.large) != 2:
        raise MissingHint(f"{method} needs two large views and was given {len(views.large)}.", "Use the method's default recipe.")
    return views.large
