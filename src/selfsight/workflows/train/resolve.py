"""Resolves a training request from the data and the hardware, and reports each automatic choice with its reason."""

import time
from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from itertools import pairwise

import numpy as np

from selfsight.core.distribute import world_size
from selfsight.core.errors import DataError, UsageError
from selfsight.core.method import Relabels
from selfsight.core.progress import ProgressCallback
from selfsight.data.loader import Loader
from selfsight.data.opening import typical_side
from selfsight.data.source import Source, Subset
from selfsight.engine.fit import fit
from selfsight.engine.hardware import Hardware
from selfsight.engine.observe import StepEvent
from selfsight.methods.table import method_class
from selfsight.workflows.train.config import SMALL, TrainConfig, build, plan_of, resolve_options
from selfsight.workflows.train.former import defaults_of
from selfsight.workflows.train.request import TrainRequest

__all__ = ["resolve_config", "resolve_size", "trial"]

FEWEST = 10
"""Steps of the shortest training with a time budget."""

TRIAL = 6
"""Steps of the trial that measures the time per step, from which a time budget becomes a number of steps."""


def resolve_size(request: TrainRequest, hardware: Hardware, progress: ProgressCallback) -> int:
    """The training size in pixels: as requested, or near the images' own size within what the hardware can train.

    Args:
        request: the request.
        hardware: device and precision.
        progress: called with the choice and its reason.
    """
    if request.size is not None:
        return request.size
    side = typical_side(request.data)
    maximum = 64 if hardware.device.type == "cpu" else 224
    size = next((standard for standard in (32, 64, 96, 128, 160, 224) if side <= standard * 1.15), 224)
    chosen = min(size, maximum)
    reason = f"the images are about {side} px" + (f", and this CPU trains in reasonable time at {maximum}" if chosen < size else "")
    progress(f"size {chosen} px: {reason}")
    return chosen


def resolve_config(request: TrainRequest, source: Source, size: int, hardware: Hardware, progress: ProgressCallback) -> TrainConfig:
    """Resolve a request to a configuration.

    Args:
        request: the request.
        source: the data set.
        size: side of the training images in pixels.
        hardware: device and precision.
        progress: called with each automatic choice and its reason.

    Raises:
        UsageError: an option does not exist, or there are too few images for a batch.
        DataError: the method needs labels and the data have none.
    """
    preset, options, training = resolve_options(request.method, size=size, options=request.options, training=request.training)
    if "classes" in signature(method_class(request.method)).parameters and "classes" not in (request.options or {}):
        options["classes"] = _classes(source, request.method)
        progress(f"{options['classes']} classes: the labels of the data, which {request.method} uses")
    options = defaults_of(request.method) | options  # named in the run's configuration, so that it means the same if a default changes
    backbone = request.backbone or preset.backbone
    if request.backbone is None:
        progress(f"backbone {backbone}: the default of {request.method} at {size} px")
    progress(f"preset: {'small images' if size <= SMALL else 'the paper'} ({training.optimiser}, rate {training.rate:g})")
    batch = _batch(request, preset.batch, len(source), progress)
    if request.accumulate > 1:
        explanation = "the loss and batch norm" if method_class(request.method).card.coupled else "batch norm"
        progress(f"accumulation: {explanation} of {request.method} are computed on parts of {batch // request.accumulate} images")
    config = TrainConfig(
        data=str(request.data), method=request.method, backbone=backbone, size=size, batch=batch, steps=0, seed=request.seed,
        limit=request.limit, options=options, training=training, accumulate=request.accumulate, precision=hardware.precision,
        init=request.init, save_every=request.save_every,
    )  # fmt: skip
    return replace(config, steps=_steps(request, config, source, hardware, progress))


def _batch(request: TrainRequest, preset: int, images: int, progress: ProgressCallback) -> int:
    """Images per global batch: as requested or the preset's, at most all, a multiple of processes and accumulated parts."""
    batch = min(request.batch or preset, images)
    batch -= batch % (world_size() * request.accumulate)
    if request.batch is None:
        progress(f"batch {batch}: the preset's" + (", as many as there are images" if batch < preset else ""))
    elif batch < request.batch:
        reason = "as many as there are images" if batch == images else "a multiple of processes and parts"
        progress(f"batch {batch}: {reason}, not the requested {request.batch}")
    if batch < 2:
        raise UsageError(
            f"{images} images are too few for a batch on {world_size()} processes in {request.accumulate} parts.",
            "Use fewer processes or a smaller --accumulate.",
        )
    return batch


def _classes(source: Source, method: str) -> int:
    """Number of classes of the data of a labelled baseline.

    Raises:
        DataError: there are no labels.
    """
    truth = source.truth(np.arange(len(source)))
    if truth.labels is None or truth.labels.max() < 0:
        raise DataError(f"{method} learns from labels, and {source.spec} has none.", "Choose a method without labels.")
    return max(len(truth.classes), int(truth.labels.max()) + 1)


def _steps(request: TrainRequest, config: TrainConfig, source: Source, hardware: Hardware, progress: ProgressCallback) -> int:
    set_options = [name for name in ("epochs", "steps", "minutes") if getattr(request, name) is not None]
    if len(set_options) > 1:
        raise UsageError(f"{' and '.join(set_options)} both set the duration.", "Use one of them.")
    if request.steps is not None:
        return request.steps
    per_epoch = len(source) // config.batch
    if request.epochs is not None:
        return round(request.epochs * per_epoch)
    minutes = request.minutes if request.minutes is not None else 10.0 if hardware.device.type == "cpu" else 60.0
    seconds = trial(config, source, hardware)
    steps, most = max(int(minutes * 60 / seconds), FEWEST), 800 * per_epoch
    budget = f"{minutes:g} minutes at {seconds * 1000:.0f} ms a step"
    if minutes * 60 < FEWEST * seconds:
        budget = f"the fewest, about {FEWEST * seconds / 60:.1f} minutes at {seconds * 1000:.0f} ms a step, more than the budget"
    progress(
        f"{min(steps, most)} steps ({min(steps, most) / per_epoch:.1f} epochs): {budget if steps <= most else 'limited to 800 epochs'}"
    )
    return min(steps, most)


def trial(config: TrainConfig, source: Source, hardware: Hardware, now: Callable[[], float] = time.perf_counter) -> float:
    """Seconds per training step, measured on a few steps of a discarded copy.

    Args:
        config: the configuration.
        source: the data set.
        hardware: device and precision.
        now: clock in seconds.
    """
    subset = Subset(source, np.arange(min(len(source), config.batch * TRIAL)))  # one epoch, so that work between epochs is not timed
    method = build(replace(config, steps=TRIAL))
    times: list[float] = []

    class Watch:
        def on_step(self, event: StepEvent) -> None:  # noqa: ARG002
            times.append(now())

    loader = Loader(subset, batch=config.batch, seed=config.seed)
    fit(method, loader, plan_of(replace(config, steps=TRIAL), method), hardware, [Watch()])
    gaps = sorted(after - before for before, after in pairwise(times[1:]))
    step = gaps[len(gaps) // 2]
    return step * (1.4 if isinstance(method, Relabels) else 1.05)  # for relabelling passes; for checkpoints and records
