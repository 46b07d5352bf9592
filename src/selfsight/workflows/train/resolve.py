"""What nobody chose is chosen, from the data and the machine, and said with its reason."""

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
from selfsight.workflows.train.request import TrainRequest

__all__ = ["resolve_config", "resolve_size", "trial"]

TRIAL = 6
"""Steps of the trial that measures this machine's rate before a time budget is turned into a number of steps."""


def resolve_size(wishes: TrainRequest, hardware: Hardware, progress: ProgressCallback) -> int:
    """The training size in pixels: the one wished for, or one near the pictures' own that this machine can afford."""
    if wishes.size is not None:
        return wishes.size
    side = typical_side(wishes.data)
    most = 64 if hardware.device.type == "cpu" else 224
    size = next((known for known in (32, 64, 96, 128, 160, 224) if side <= known * 1.15), 224)
    chosen = min(size, most)
    why = f"the pictures are about {side} px" + (f", and this processor learns in reasonable time at {most}" if chosen < size else "")
    progress(f"size {chosen} px: {why}")
    return chosen


def resolve_config(wishes: TrainRequest, source: Source, size: int, hardware: Hardware, progress: ProgressCallback) -> TrainConfig:
    """Resolve wishes to whole numbers; what was chosen is said with its reason."""
    preset, options, training = resolve_options(wishes.method, size=size, options=wishes.options, training=wishes.training)
    if "classes" in signature(method_class(wishes.method)).parameters and "classes" not in (wishes.options or {}):
        options["classes"] = _classes(source, wishes.method)
        progress(f"{options['classes']} classes: the data's labels, which {wishes.method} is told")
    backbone = wishes.backbone or preset.backbone
    if wishes.backbone is None:
        progress(f"backbone {backbone}: what {wishes.method} uses at {size} px")
    progress(f"preset: {'small images' if size <= SMALL else 'the paper'} ({training.optimiser}, rate {training.rate:g})")
    batch = min(wishes.batch or preset.batch, len(source))
    batch -= batch % (world_size() * wishes.accumulate)
    if wishes.batch is None:
        progress(f"batch {batch}: the preset's" + (", as many as there are images" if batch < preset.batch else ""))
    if batch < 2:
        raise UsageError(
            f"{len(source)} images do not make a batch for {world_size()} processes in {wishes.accumulate} pieces.",
            "Use fewer of either.",
        )
    if wishes.accumulate > 1:
        coupled = method_class(wishes.method).card.coupled
        what = "its loss compares the images of a batch, and batch norms" if coupled else "its loss is the same, but batch norms"
        progress(f"accumulation: {wishes.method} sees pieces of {batch // wishes.accumulate} images; {what} see a piece at a time")
    settings = TrainConfig(
        data=str(wishes.data),
        method=wishes.method,
        backbone=backbone,
        size=size,
        batch=batch,
        steps=0,
        seed=wishes.seed,
        limit=wishes.limit,
        options=options,
        training=training,
        accumulate=wishes.accumulate,
        precision=hardware.precision,
        init=wishes.init,
        save_every=wishes.save_every,
    )
    return replace(settings, steps=_steps(wishes, settings, source, hardware, progress))


def _classes(source: Source, method: str) -> int:
    """How many classes the labels of a labelled baseline's data name.

    Raises:
        DataError: there are no labels.
    """
    truth = source.truth(np.arange(len(source)))
    if truth.labels is None or truth.labels.max() < 0:
        raise DataError(f"{method} learns from labels, and {source.spec} has none.", "Choose a method without labels.")
    return max(len(truth.classes), int(truth.labels.max()) + 1)


def _steps(wishes: TrainRequest, settings: TrainConfig, source: Source, hardware: Hardware, progress: ProgressCallback) -> int:
    given = [name for name in ("epochs", "steps", "minutes") if getattr(wishes, name) is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} both say how long to learn.", "Give one of them.")
    if wishes.steps is not None:
        return wishes.steps
    per_epoch = len(source) // settings.batch
    if wishes.epochs is not None:
        return round(wishes.epochs * per_epoch)
    minutes = wishes.minutes if wishes.minutes is not None else 10.0 if hardware.device.type == "cpu" else 60.0
    seconds = trial(settings, source, hardware)
    steps = max(int(minutes * 60 / seconds), 10)
    most = 800 * per_epoch
    words = f"{minutes:g} minutes at {seconds * 1000:.0f} ms a step"
    progress(f"{min(steps, most)} steps ({min(steps, most) / per_epoch:.1f} epochs): {words if steps <= most else '800 epochs are enough'}")
    return min(steps, most)


def trial(settings: TrainConfig, source: Source, hardware: Hardware, now: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of a training step here by the clock ``now``, from a few steps of a copy that is thrown away."""
    some = Subset(source, np.arange(min(len(source), settings.batch * TRIAL)))  # one epoch: what is done once an epoch is not timed
    method = build(replace(settings, steps=TRIAL))
    times: list[float] = []

    class Watch:
        def on_step(self, moment: StepEvent) -> None:  # noqa: ARG002
            times.append(now())

    loader = Loader(some, batch=settings.batch, seed=settings.seed)
    fit(method, loader, plan_of(replace(settings, steps=TRIAL), method), hardware, [Watch()])
    gaps = sorted(after - before for before, after in pairwise(times[1:]))
    step = gaps[len(gaps) // 2]
    return step * (1.4 if isinstance(method, Relabels) else 1.05)  # relabelling passes; checkpoints and records
