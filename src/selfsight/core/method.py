"""Interfaces of methods and view recipes."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, Protocol, runtime_checkable

from jaxtyping import Float, Int, Num
from torch import Tensor, nn

from selfsight.core.bounds import Bounds
from selfsight.core.card import Card, Preset, Training
from selfsight.core.clock import Clock
from selfsight.core.errors import MissingHint
from selfsight.core.part import run_each
from selfsight.core.representation import AnyBackbone
from selfsight.core.views import Images, Views

__all__ = [
    "Drawn",
    "Extract",
    "Frame",
    "Freezes",
    "Method",
    "Outcome",
    "Recipe",
    "Relabels",
    "RemembersSamples",
    "Supervised",
    "Turn",
    "Turns",
    "UsesExtraSamples",
    "hint",
    "sample_index",
    "two_views",
]


@dataclass(frozen=True)
class Frame:
    """Size of the views.

    Attributes:
        size: side in pixels.
        stride: pixels between cells of the backbone's grid.
        channels: number of channels.
    """

    size: int
    stride: int
    channels: int = 3


@dataclass(frozen=True)
class Drawn:
    """Random parameters of a global batch of views, on the CPU, one row per image in every tensor.

    Attributes:
        values: parameters by name.
        frame: size of the views.
    """

    values: Mapping[str, Num[Tensor, "batch ..."]]
    frame: Frame

    def map(self, change: Callable[[Tensor], Tensor]) -> "Drawn":
        """The same parameters with a function applied to each tensor: sliced to own rows, moved to a device."""
        return Drawn({name: change(value) for name, value in self.values.items()}, self.frame)


@runtime_checkable
class Recipe(Protocol):
    """How images become views. Implementations are frozen dataclasses."""

    def draw(self, n: int, clock: Clock, frame: Frame) -> Drawn:
        """Random parameters of the global batch, on the CPU, from ``key(clock.seed, clock.step)``.

        Args:
            n: images in the global batch.
            clock: seed and step.
            frame: size of the views.
        """
        ...

    def make(self, images: Images, drawn: Drawn) -> Views:
        """Views of this process's images, on their device.

        Args:
            images: this process's images.
            drawn: their parameters.
        """
        ...


@dataclass(frozen=True)
class Outcome:
    """Result of a forward pass.

    Attributes:
        losses: named, weighted terms; their sum is minimised.
        diagnostics: detached values for observers: ``embedding`` (N, D), ``assignment`` (cluster probabilities, (N, K)), ``accuracy``,
            ``chance`` (loss of an uninformed prediction, such as ln K).
    """

    losses: dict[str, Float[Tensor, ""]]
    diagnostics: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def loss(self) -> Float[Tensor, ""]:
        """The sum of the terms."""
        first, *rest = self.losses.values()
        return sum(rest, first)


class Method(nn.Module, ABC, Generic[AnyBackbone]):
    """Computes the loss terms of the views of a batch.

    A subclass's ``__init__`` takes the backbone and then keywords with defaults; each keyword is stored under its own name.
    ``limits`` are the ranges of numbers that are not those of all methods (``methods.limits``).
    """

    card: ClassVar[Card]
    paper: ClassVar[Training]
    small: ClassVar[Preset]
    limits: ClassVar[Mapping[str, Bounds]] = {}
    backbone: AnyBackbone
    recipe: Recipe

    def __init__(self, backbone: AnyBackbone, recipe: Recipe) -> None:
        super().__init__()
        self.backbone, self.recipe = backbone, recipe

    @abstractmethod
    def forward(self, views: Views, clock: Clock) -> Outcome:
        """Loss of this process's rows of a global batch.

        Args:
            views: views of this process's images.
            clock: position of the run.
        """

    def through(self, views: Sequence[Num[Tensor, "batch channel *size"]], *links: nn.Module) -> list[Float[Tensor, "batch dim"]]:
        """Pooled features of every view after some modules; see ``run_each``.

        Args:
            views: images (N, C, ...) of each view.
            *links: modules after the backbone.
        """
        return run_each((self.backbone, *links), views)

    def options(self) -> dict[str, Any]:
        """Keyword arguments that build this method again."""
        names = inspect.signature(type(self)).parameters
        return {name: getattr(self, name) for name in names if name != "backbone"}


@dataclass(frozen=True)
class Turn:
    """One of several optimisation turns of a step.

    Attributes:
        name: name of the turn.
        modules: modules whose parameters are updated.
        steps: optimiser steps of this turn before the next.
    """

    name: str
    modules: tuple[nn.Module, ...]
    steps: int = 1


Extract = Callable[[Callable[[Tensor], Tensor]], tuple[Tensor, Tensor]]
"""Runs a function on all training images; returns the samples' indices and its outputs, both in order of index."""


@runtime_checkable
class Relabels(Protocol):
    """A method that makes pseudo-labels by passes over the data (DeepCluster, SeLa)."""

    def due(self, clock: Clock) -> bool:
        """Whether labels are made before this step."""
        ...

    def relabel(self, extract: Extract, clock: Clock) -> Iterable[nn.Module]:
        """Make labels.

        Args:
            extract: runs a function on all training images.
            clock: position of the run.

        Returns:
            Reinitialised modules, whose optimiser state is deleted.
        """
        ...


@runtime_checkable
class Turns(Protocol):
    """A method with several optimisation turns per step; ``forward`` is called once per turn, with ``clock.turn``."""

    def turns(self) -> tuple[Turn, ...]:
        """The turns of one step, in order."""
        ...


@runtime_checkable
class Freezes(Protocol):
    """A method with modules that are frozen for a while (the prototypes of SwAV and DINO in the first epoch)."""

    def frozen(self, clock: Clock) -> tuple[nn.Module, ...]:
        """The modules that are not updated in this step."""
        ...


@runtime_checkable
class UsesExtraSamples(Protocol):
    """A method that uses other samples besides those of the batch (SCAN's neighbours); their large views follow the batch's own."""

    def extra_samples(self, index: Int[Tensor, " batch"], clock: Clock) -> Int[Tensor, " batch"]:
        """Another sample for each sample.

        Args:
            index: samples (N,) of the batch.
            clock: position of the run.
        """
        ...


@runtime_checkable
class RemembersSamples(Protocol):
    """A method with parameters of its own for every sample, so that it cannot go on with other data; see also ``modules.table.SampleTable``."""

    remembers_samples: ClassVar[Literal[True]]


@runtime_checkable
class Supervised(Protocol):
    """A supervised baseline: the only kind that gets labels, as the hint ``label`` (N, 1; -1 where unknown)."""

    supervised: ClassVar[Literal[True]]


def hint(views: Views, name: str, method: str) -> Tensor:
    """A hint that a method requires.

    Args:
        views: views of the batch.
        name: name of the hint.
        method: name of the method, for the message.

    Raises:
        MissingHint: the recipe does not record it.
    """
    if name not in views.hints:
        known = ", ".join(sorted(views.hints)) or "none"
        raise MissingHint(
            f"{method} needs the hint {name!r}; available are: {known}.", "Use the method's default recipe, or one that records it."
        )
    return views.hints[name]


def sample_index(views: Views, method: str) -> Int[Tensor, " batch"]:
    """Indices of a batch's samples, for a method with a memory of all samples.

    Args:
        views: views of the batch.
        method: name of the method, for the message.

    Raises:
        MissingHint: the views have no index.
    """
    if views.index is None:
        raise MissingHint(f"{method} needs Views.index, because it stores values of every sample.", "Make views with an index.")
    return views.index


def two_views(views: Views, method: str) -> tuple[Tensor, Tensor]:
    """The two large views of a batch.

    Args:
        views: views of the batch.
        method: name of the method, for the message.

    Raises:
        MissingHint: there are not exactly two.
    """
    if len(views.large) != 2:
        raise MissingHint(f"{method} needs two large views, not {len(views.large)}.", "Use the method's default recipe.")
    return views.large
