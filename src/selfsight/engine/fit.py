"""Training loop."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from selfsight.core.method import Method, Relabels, Supervised
from selfsight.core.part import parts_of
from selfsight.data.loader import Loader
from selfsight.data.source import Source
from selfsight.engine.hardware import Hardware
from selfsight.engine.observe import Observer, StepEvent
from selfsight.engine.plan import Plan

__all__ = ["fit", "labels_of"]


def labels_of(method: Method, source: Source) -> Tensor | None:
    """Labels of all samples for a supervised method; None for any other method.

    Args:
        method: the method.
        source: the data set.
    """
    known = source.truth(np.arange(len(source))).labels if isinstance(method, Supervised) else None
    return None if known is None else torch.from_numpy(np.asarray(known, dtype=np.int64))


def fit(
    method: Method, loader: Loader, plan: Plan, hardware: Hardware, observers: Sequence[Observer] = (), *, start: int = 0,
    restore: Callable[[Optimizer], None] | None = None,
) -> Optimizer:  # fmt: skip
    """Train a method.

    Args:
        method: the method, trained in place.
        loader: batches of training images.
        plan: steps, batch and optimiser settings.
        hardware: device and precision.
        observers: called after every step.
        start: first step.
        restore: called with the optimiser before the first step, to load its state.

    Returns:
        The optimiser.
    """
    placed = hardware.place(method)  # before the optimiser is made
    optimiser = plan.optimiser(method)
    if restore is not None:
        restore(optimiser)
    extract = partial(plan.extract, method, loader, hardware)
    plan.labels, plan.source = labels_of(method, loader.source), loader.source
    method.train()
    for clock, batch in plan.iter_batches(loader, hardware, start):
        if isinstance(method, Relabels) and method.due(clock):
            plan.forget(optimiser, method.relabel(extract, clock))
        steps = plan.take_step(method, placed, optimiser, batch, clock, hardware)
        for part in parts_of(method):
            part.after_step(clock) if all(step.healthy for step in steps) else part.discard()
        for observer in observers:
            observer.on_step(StepEvent(clock, tuple(steps), batch, method, optimiser))
    return optimiser
