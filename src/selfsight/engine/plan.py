"""How a method is trained: how long, how fast, in what pieces; and one step of it."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from selfsight.core.card import Training
from selfsight.core.clock import Clock, key
from selfsight.core.distribute import all_gather_with_grad, local_rows, rank, world_size
from selfsight.core.errors import DataError, Diverged
from selfsight.core.method import Accompanied, Frame, Freezes, Method, Outcome, Supervised, Turn, Turns
from selfsight.core.schedule import rise_and_fall
from selfsight.core.views import Images, Views
from selfsight.data.evaluation_view import central_view
from selfsight.data.loader import Loader, load_images
from selfsight.data.source import Source
from selfsight.engine.hardware import Hardware
from selfsight.engine.optimisers import make_optimiser

__all__ = ["Plan", "StepResult", "joined", "turns_of"]

PATIENCE = 3
"""Steps in a row that may fail before a run is given up."""
EXTRACT_BATCH = 256
"""Images at least that pass through a network at once where nothing is learnt."""


@dataclass(frozen=True)
class StepResult:
    """What one optimiser step says: the outcome, whether it was taken, the gradient's norm and the learning rate."""

    outcome: Outcome
    healthy: bool
    norm: float
    rate: float


def turns_of(method: Method) -> tuple[Turn, ...]:
    """The moves of one step; a method that is no game makes one, in which everything may move."""
    return method.turns() if isinstance(method, Turns) else (Turn("", (method,)),)


@dataclass
class Plan:
    """How a method is trained.

    Attributes:
        seed: of the run.
        steps: optimiser steps.
        batch: images of the global batch.
        training: optimiser, learning rate and weight decay.
        frame: the picture that views are made for.
        accumulate: pieces that the batch is cut into, to save memory.
        labels: the class of every sample of the data; filled for labelled baselines alone.
        source: where companions are read from; filled for methods that ask for them.
    """

    seed: int
    steps: int
    batch: int
    training: Training
    frame: Frame
    accumulate: int = 1
    labels: Tensor | None = None
    source: Source | None = None
    failures: int = 0
    _saved: list[Tensor] = field(default_factory=list)

    @property
    def highest(self) -> float:
        """The learning rate after warm-up."""
        return self.training.rate * self.batch / self.training.reference_batch

    def rate(self, step: int) -> float:
        """The learning rate of a step: a line up, then half a cosine down."""
        return self.highest * rise_and_fall(step, self.steps, self.training.warmup, self.training.final)

    def optimiser(self, placed: nn.Module) -> Optimizer:
        """The optimiser, made after the method was placed."""
        return make_optimiser(placed, self.training)

    def iter_batches(self, loader: Loader, hardware: Hardware, start: int = 0) -> Iterator[tuple[Clock, Images]]:
        """Clock and batch of each step from ``start`` on. The order of an epoch is a pure function of seed and epoch."""
        batches = loader.batches(start, self.steps - start, rank=rank(), world=world_size())
        for step, batch in enumerate(batches, start):
            clock = Clock(self.seed, step, self.steps, loader.steps_per_epoch)
            torch.manual_seed(key(self.seed, step, 1 + rank()))  # dropout and stochastic depth inside networks
            yield clock, batch.map(hardware.move)

    def views(self, method: Method, batch: Images, clock: Clock, hardware: Hardware) -> list[Views]:
        """The views of this process's rows, in as many pieces as the batch is cut into.

        With companions' views for methods that ask for them, and labels for labelled baselines alone.
        """
        drawn = [
            (group, method.recipe.draw(self.batch, moment, self.frame).map(local_rows))
            for group, moment in self.groups(method, batch, clock)
        ]
        pieces = []
        for piece in range(self.accumulate):
            cut = partial(_piece, number=piece, of=self.accumulate)
            groups = [(group.map(hardware.move).map(cut), values.map(cut).map(hardware.move)) for group, values in drawn]
            made = [replace(method.recipe.make(group, values), streams=group.streams) for group, values in groups]
            pieces.append(self.with_labels(method, joined(made).map(hardware.layout)))
        return pieces

    def groups(self, method: Method, batch: Images, clock: Clock) -> list[tuple[Images, Clock]]:
        """The batch, and its companions if the method asks for them, each with the moment that its chance comes from."""
        if not isinstance(method, Accompanied):
            return [(batch, clock)]
        assert self.source is not None
        others = load_images(self.source, method.companions(batch.index, clock).cpu().numpy())
        return [(batch, clock), (others, replace(clock, seed=key(clock.seed, 0xAC)))]

    def with_labels(self, method: Method, views: Views) -> Views:
        """The views with their samples' labels, if the method is a labelled baseline.

        Raises:
            DataError: the data have no labels.
        """
        if not isinstance(method, Supervised):
            return views
        if self.labels is None:
            raise DataError(f"{type(method).__name__} learns from labels, and these data have none.", "Choose a method without labels.")
        assert views.index is not None
        return replace(views, hints={**views.hints, "label": self.labels.to(views.index.device)[views.index][:, None]})

    def step(
        self,
        method: Method,
        placed: nn.Module,
        optimiser: Optimizer,
        views: Sequence[Views],
        turn: Turn,
        clock: Clock,
        hardware: Hardware,
    ) -> StepResult:
        """Forward, backward, other players' gradients dropped, clip, step. A step that is not finite is not taken.

        Raises:
            Diverged: several steps in a row were not finite.
        """
        self._remember(method)
        optimiser.zero_grad(set_to_none=True)
        outcomes = []
        for piece in views:
            with hardware.autocast():
                outcome = placed(piece, clock.at(turn.name))
            (outcome.loss / len(views)).backward()
            outcomes.append(outcome)
        self._drop(method, turn, clock)
        norm = self._norm(method)
        rate = self.rate(clock.step)
        healthy = math.isfinite(norm)
        if healthy:
            self.failures = 0
            for group in optimiser.param_groups:
                group["lr"] = self.highest if group["steady"] else rate
            optimiser.step()
        else:
            self._restore(method, views, clock)
        return StepResult(outcomes[-1] if len(outcomes) == 1 else _mean(outcomes), healthy, norm, rate)

    def _drop(self, method: Method, turn: Turn, clock: Clock) -> None:
        """Only this turn's players keep their gradient, and none of them that rests."""
        if isinstance(method, Turns):
            players = {id(parameter) for player in turn.players for parameter in player.parameters()}
            for parameter in method.parameters():
                if id(parameter) not in players:
                    parameter.grad = None
        for module in method.frozen(clock) if isinstance(method, Freezes) else ():
            for parameter in module.parameters():
                parameter.grad = None

    def _norm(self, method: Method) -> float:
        """The gradient's norm before clipping; clipping scales the gradient where the training recipe asks for it."""
        moved = [parameter for parameter in method.parameters() if parameter.grad is not None]
        norm = nn.utils.get_total_norm([parameter.grad for parameter in moved if parameter.grad is not None])
        if self.training.clip and moved:
            nn.utils.clip_grads_with_norm_(moved, self.training.clip, norm)
        return float(norm)

    def _remember(self, method: Method) -> None:
        """Keep the batch statistics, in case the step has to be undone."""
        live = _statistics(method)
        if len(self._saved) != len(live):
            self._saved = [tensor.clone() for tensor in live]
        elif live:
            torch._foreach_copy_(self._saved, live)

    def _restore(self, method: Method, views: Sequence[Views], clock: Clock) -> None:
        if self._saved:
            torch._foreach_copy_(_statistics(method), self._saved)
        self.failures += 1
        if self.failures >= PATIENCE:
            index = [int(i) for piece in views if piece.index is not None for i in piece.index]
            raise Diverged(
                f"The loss or its gradient was not a number for {PATIENCE} steps in a row, up to step {clock.step}; the last batch "
                f"held the samples {index}.",
                "Lower the learning rate (--training.rate), use --precision fp32, or look at those samples.",
            )

    def forget(self, optimiser: Optimizer, modules: Iterable[nn.Module]) -> None:
        """The optimiser forgets what it remembers of modules that were made anew."""
        for module in modules:
            for parameter in module.parameters():
                optimiser.state.pop(parameter, None)

    def extract(self, method: Method, loader: Loader, hardware: Hardware, network: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Central views of all training images through a network, in order of index, on every process.

        Batch statistics are those remembered (evaluation mode).
        """
        count = len(loader.source)
        shares = (np.arange(-(-count // world_size()) * world_size()) % count).reshape(
            world_size(), -1
        )  # equal shares: rows repeat at the end
        was, normalise = method.training, getattr(method.recipe, "normalise", None)
        method.eval()
        indices, rows = [], []
        with torch.no_grad(), hardware.autocast():
            for part in np.array_split(shares[rank()], max(len(shares[0]) // max(self.batch, EXTRACT_BATCH), 1)):
                moved = load_images(loader.source, part).map(hardware.move)
                rows.append(network(hardware.layout(central_view(moved, self.frame.size, normalise))).float())
                indices.append(moved.index)
        method.train(was)
        index, features = all_gather_with_grad(torch.cat(indices)), all_gather_with_grad(torch.cat(rows))
        order = index.argsort(stable=True)
        index, features = index[order], features[order]
        first = torch.ones_like(index, dtype=torch.bool)
        first[1:] = index[1:] != index[:-1]  # rows that were repeated
        return index[first], features[first]


def joined(made: Sequence[Views]) -> Views:
    """The first views, and after its large views those of the others."""
    first, *rest = made
    return replace(first, large=first.large + tuple(view for views in rest for view in views.large)) if rest else first


def _statistics(method: nn.Module) -> list[Tensor]:
    return [buffer for name, buffer in method.named_buffers() if name.endswith(("running_mean", "running_var", "num_batches_tracked"))]


def _piece(tensor: Tensor, number: int, of: int) -> Tensor:
    return tensor.chunk(of)[number] if of > 1 else tensor


def _mean(outcomes: Sequence[Outcome]) -> Outcome:
    """The mean losses of the pieces of a batch, with the signs of the last."""
    names = outcomes[0].losses
    means = {name: torch.stack([outcome.losses[name].detach() for outcome in outcomes]).mean() for name in names}
    return Outcome(means, outcomes[-1].diagnostics)
