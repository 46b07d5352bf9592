"""Training plan: number of steps, learning rate, gradient accumulation; and a single step."""

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
from selfsight.core.errors import DataError, Diverged, UsageError
from selfsight.core.method import Frame, Freezes, Method, Outcome, Supervised, Turn, Turns, UsesExtraSamples
from selfsight.core.part import parts_of
from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.core.rng import seed_rng
from selfsight.core.schedule import rise_and_fall
from selfsight.core.views import Images, Views
from selfsight.data.evaluation_view import central_view
from selfsight.data.loader import Loader, load_images
from selfsight.data.source import Source
from selfsight.engine.hardware import Hardware
from selfsight.engine.memory import is_out_of_memory, memory_fault, smaller_parts, splitting_changes
from selfsight.engine.optimisers import make_optimiser

__all__ = ["Plan", "StepResult", "joined", "turns_of"]

PATIENCE = 3
"""Consecutive steps with non-finite gradients after which a run is stopped."""
EXTRACT_BATCH = 256
"""Minimum number of images per batch for passes without gradients."""


@dataclass(frozen=True)
class StepResult:
    """Result of one optimiser step.

    Attributes:
        outcome: result of the forward pass.
        healthy: whether the step was taken, as its gradient was finite.
        norm: norm of the gradient before clipping.
        rate: learning rate.
    """

    outcome: Outcome
    healthy: bool
    norm: float
    rate: float


def turns_of(method: Method) -> tuple[Turn, ...]:
    """The turns of one step; a method without turns has one, in which all parameters are trained."""
    return method.turns() if isinstance(method, Turns) else (Turn("", (method,)),)


@dataclass
class Plan:
    """Settings and state of a training run.

    Attributes:
        seed: seed of the run.
        steps: number of optimiser steps.
        batch: images in the global batch.
        training: optimiser, learning rate and weight decay.
        frame: size of the views.
        accumulate: number of parts that the batch is split into, to save memory.
        labels: labels of all samples; for supervised methods only.
        source: the data set; for methods that use companion images only.
        failures: consecutive steps with non-finite gradients.
        progress: called with a message if the batch is split because memory does not suffice.
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
    progress: ProgressCallback = no_progress
    _saved: list[Tensor] = field(default_factory=list)
    _remembered: int = -1
    _stepped: bool = False

    @property
    def highest(self) -> float:
        """Maximum learning rate, after warm-up."""
        return self.training.rate * self.batch / self.training.reference_batch

    def rate(self, step: int) -> float:
        """Learning rate of a step: linear warm-up, then cosine decay."""
        return self.highest * rise_and_fall(step, self.steps, self.training.warmup, self.training.final)

    def optimiser(self, placed: nn.Module) -> Optimizer:
        """The optimiser; made after the method was placed on its device."""
        return make_optimiser(placed, self.training)

    def iter_batches(self, loader: Loader, hardware: Hardware, start: int = 0) -> Iterator[tuple[Clock, Images]]:
        """Clock and batch of each step; the order of an epoch is a pure function of seed and epoch.

        Args:
            loader: batches of training images.
            hardware: device and precision.
            start: first step.
        """
        batches = loader.batches(start, self.steps - start, rank=rank(), world=world_size())
        for step, batch in enumerate(batches, start):
            clock = Clock(self.seed, step, self.steps, loader.steps_per_epoch)
            seed_rng(key(self.seed, step, 1 + rank()))  # dropout and stochastic depth inside networks
            yield clock, batch.map(hardware.move)

    def views(self, method: Method, batch: Images, clock: Clock, hardware: Hardware) -> list[Views]:
        """Views of this process's rows, one entry per part of the batch, with companion views or labels if the method uses them.

        Args:
            method: the method.
            batch: images of this process.
            clock: clock of the step.
            hardware: device and precision.
        """
        if batch.modality != method.backbone.modality:
            raise UsageError(
                f"The data are {batch.modality}s, and the network takes {method.backbone.modality}s.",
                "Choose another --backbone: r3d_tiny takes clips, spectrogram_tiny sounds, most others images.",
            )
        drawn = [
            (group, method.recipe.draw(self.batch, group_clock, self.frame).map(local_rows))
            for group, group_clock in self.groups(method, batch, clock)
        ]
        parts = []
        for part in range(self.accumulate):
            cut = partial(_part, number=part, of=self.accumulate)
            groups = [(group.map(hardware.move).map(cut), values.map(cut).map(hardware.move)) for group, values in drawn]
            made_views = [replace(method.recipe.make(group, values), streams=group.streams) for group, values in groups]
            parts.append(self.with_labels(method, joined(made_views).map(hardware.layout)))
        return parts

    def groups(self, method: Method, batch: Images, clock: Clock) -> list[tuple[Images, Clock]]:
        """The batch, and companion images if the method uses them, each with the clock of its random numbers.

        Args:
            method: the method.
            batch: images of this process.
            clock: clock of the step.
        """
        if not isinstance(method, UsesExtraSamples):
            return [(batch, clock)]
        assert self.source is not None
        others = load_images(self.source, method.extra_samples(batch.index, clock).cpu().numpy())
        return [(batch, clock), (others, replace(clock, seed=key(clock.seed, 0xAC)))]

    def with_labels(self, method: Method, views: Views) -> Views:
        """Views with their samples' labels if the method is supervised.

        Args:
            method: the method.
            views: views of a part of the batch.

        Raises:
            DataError: the data have no labels.
        """
        if not isinstance(method, Supervised):
            return views
        if self.labels is None:
            raise DataError(f"{type(method).__name__} needs labels, and the data set has none.", "Choose a method without labels.")
        assert views.index is not None
        return replace(views, hints={**views.hints, "label": self.labels.to(views.index.device)[views.index][:, None]})

    def take_step(
        self, method: Method, placed: nn.Module, optimiser: Optimizer, batch: Images, clock: Clock, hardware: Hardware
    ) -> list[StepResult]:
        """The optimiser steps of all turns. If memory does not suffice, the batch is split into smaller parts, from then on.

        Args:
            method: the method.
            placed: the method as wrapped by ``Hardware.place``.
            optimiser: its optimiser.
            batch: images of this process.
            clock: clock of the step.
            hardware: device and precision.

        Raises:
            Diverged: several consecutive steps were not finite.
            EnvironmentFault: memory does not suffice for the smallest part.
        """
        due = [turn for turn in turns_of(method) for _ in range(turn.steps)]
        results: list[StepResult] = []
        views = None
        while len(results) < len(due):
            self._stepped, failure = False, ""
            try:
                views = views or self.views(method, batch, clock, hardware)
                results.append(self.step(method, placed, optimiser, views, due[len(results)], clock, hardware))
            except Exception as error:
                if self._stepped or not is_out_of_memory(error):
                    raise
                failure = str(error) or "out of memory"
            if failure:  # outside of the handler, whose traceback keeps the tensors of the failed step
                views = None
                self._split(method, optimiser, len(batch), clock, failure)
        return results

    def _split(self, method: Method, optimiser: Optimizer, images: int, clock: Clock, reason: str) -> None:
        """Undo a step that memory did not suffice for, and halve the parts of the batch."""
        optimiser.zero_grad(set_to_none=True)
        for part in parts_of(method):
            part.discard()
        if self._remembered == clock.step and self._saved:
            torch._foreach_copy_(_statistics(method), self._saved)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if world_size() > 1:
            raise memory_fault(images, reason, "Use --accumulate 2 or more: with several processes the batch is not split by itself.")
        parts = smaller_parts(method, images, self.accumulate)
        if parts is None:
            raise memory_fault(-(-images // self.accumulate), reason)
        self.accumulate, change = parts, splitting_changes(method)
        self.progress(
            f"out of memory at step {clock.step + 1}: the batch of {images} is computed in {parts} parts from here on; "
            + (f"this changes the loss, because {change}" if change else "its gradient is the same")
        )
        seed_rng(key(self.seed, clock.step, 1 + rank()))

    def step(
        self, method: Method, placed: nn.Module, optimiser: Optimizer, views: Sequence[Views], turn: Turn, clock: Clock,
        hardware: Hardware,
    ) -> StepResult:  # fmt: skip
        """One optimiser step: forward, backward, removal of gradients of other turns, clipping, update. Non-finite steps are skipped.

        Args:
            method: the method.
            placed: the method as wrapped by ``Hardware.place``.
            optimiser: its optimiser.
            views: views of each part of the batch.
            turn: parameters to update.
            clock: clock of the step.
            hardware: device and precision.

        Raises:
            Diverged: several consecutive steps were not finite.
        """
        self._remember(method, clock)
        optimiser.zero_grad(set_to_none=True)
        shares = [len(part) / sum(map(len, views)) for part in views]
        outcomes = []
        for part, share in zip(views, shares, strict=True):
            with hardware.autocast():
                outcome = placed(part, clock.at(turn.name))
            (outcome.loss / len(views) if len({*shares}) == 1 else outcome.loss * share).backward()
            outcomes.append(outcome)
        self._stepped, self._remembered = True, -1
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
        return StepResult(outcomes[-1] if len(outcomes) == 1 else _mean(outcomes, shares), healthy, norm, rate)

    def _drop(self, method: Method, turn: Turn, clock: Clock) -> None:
        """Remove the gradients of parameters that are not in this turn or are frozen."""
        if isinstance(method, Turns):
            modules = {id(parameter) for player in turn.modules for parameter in player.parameters()}
            for parameter in method.parameters():
                if id(parameter) not in modules:
                    parameter.grad = None
        for module in method.frozen(clock) if isinstance(method, Freezes) else ():
            for parameter in module.parameters():
                parameter.grad = None

    def _norm(self, method: Method) -> float:
        """The gradient's norm before clipping; clips the gradient if the training recipe says so."""
        parameters = [parameter for parameter in method.parameters() if parameter.grad is not None]
        norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])
        if self.training.clip and parameters:
            nn.utils.clip_grads_with_norm_(parameters, self.training.clip, norm)
        return float(norm)

    def _remember(self, method: Method, clock: Clock) -> None:
        """Save the batch norm statistics, to undo a step."""
        self._remembered = clock.step
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
            index = [int(i) for part in views if part.index is not None for i in part.index]
            raise Diverged(
                f"The loss or its gradient was not finite for {PATIENCE} steps in a row, up to step {clock.step}; the last batch "
                f"had the samples {index}.",
                "Lower the learning rate (--training.rate), use --precision fp32, or check these samples.",
            )

    def forget(self, optimiser: Optimizer, modules: Iterable[nn.Module]) -> None:
        """Delete the optimiser's state of modules that were reinitialised.

        Args:
            optimiser: the optimiser.
            modules: the new modules.
        """
        for module in modules:
            for parameter in module.parameters():
                optimiser.state.pop(parameter, None)

    def extract(self, method: Method, loader: Loader, hardware: Hardware, network: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Features of central views of all training images, in order of index, on every process; in evaluation mode.

        Args:
            method: the method.
            loader: gives the data set.
            hardware: device and precision.
            network: function from views to features.

        Returns:
            Index (N,) and features (N, D).
        """
        count = len(loader.source)
        parts = (np.arange(-(-count // world_size()) * world_size()) % count).reshape(
            world_size(), -1
        )  # equal parts: rows are repeated at the end
        was_training, normalise = method.training, getattr(method.recipe, "normalise", None)
        method.eval()
        indices, rows = [], []

        def central(images: Images) -> Tensor:
            return network(hardware.layout(central_view(images, self.frame.size, normalise))).float()

        with torch.no_grad(), hardware.autocast():
            for rows_of_batch in np.array_split(parts[rank()], max(len(parts[0]) // max(self.batch, EXTRACT_BATCH), 1)):
                for moved, output in _outputs(loader.source, rows_of_batch, hardware, central):
                    indices.append(moved)
                    rows.append(output)
        method.train(was_training)
        index, features = all_gather_with_grad(torch.cat(indices)), all_gather_with_grad(torch.cat(rows))
        order = index.argsort(stable=True)
        index, features = index[order], features[order]
        first = torch.ones_like(index, dtype=torch.bool)
        first[1:] = index[1:] != index[:-1]  # drop repeated rows
        return index[first], features[first]


def joined(made: Sequence[Views]) -> Views:
    """The first views with the large views of the others appended."""
    first, *rest = made
    return replace(first, large=first.large + tuple(view for views in rest for view in views.large)) if rest else first


def _outputs(source: Source, rows: np.ndarray, hardware: Hardware, network: Callable[[Images], Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Indices and outputs of rows: together, or in halves where memory does not suffice."""
    try:
        moved = load_images(source, rows).map(hardware.move)
        return [(moved.index, network(moved))]
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        if len(rows) < 2:
            raise memory_fault(1, str(error)) from error
    return [found for half in np.array_split(rows, 2) for found in _outputs(source, half, hardware, network)]


def _statistics(method: nn.Module) -> list[Tensor]:
    return [buffer for name, buffer in method.named_buffers() if name.endswith(("running_mean", "running_var", "num_batches_tracked"))]


def _part(tensor: Tensor, number: int, of: int) -> Tensor:
    return tensor.tensor_split(of)[number] if of > 1 else tensor


def _mean(outcomes: Sequence[Outcome], shares: Sequence[float]) -> Outcome:
    """Mean losses over the parts of a batch, weighted by their images, with the diagnostics of the last part."""
    means = {}
    for name in outcomes[0].losses:
        values = torch.stack([outcome.losses[name].detach() for outcome in outcomes])
        means[name] = values.mean() if len({*shares}) == 1 else (values * values.new_tensor(shares)).sum()
    return Outcome(means, outcomes[-1].diagnostics)
