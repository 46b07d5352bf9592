"""What a user asks for when learning. Torch-free, so that the command line can read it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["TrainRequest"]


@dataclass(frozen=True)
class TrainRequest:
    """What the user asked for; ``None`` is left to choose.

    Attributes:
        data: a data set's name (see ``open_source``).
        method: how to learn.
        backbone: what learns.
        size: side of the training images in pixels.
        batch: images in a step, over all processes.
        epochs: passes over the data; 0 makes an untrained run.
        steps: steps, instead of epochs.
        minutes: a time budget, instead of epochs.
        seed: of everything.
        limit: draw so many images at random.
        init: continue from the weights of a run or of ``timm:NAME``.
        options: of the method.
        training: of its training recipe.
        accumulate: pieces that a batch is cut into, to save memory.
        precision: auto, bf16 or fp32.
        device: auto, cpu, cuda or mps.
        workers: processes that read images; 0 is one thread.
        compile: compile the method's forward.
        save_every: steps between checkpoints.
    """

    data: str
    method: str = "simclr"
    backbone: str | None = None
    size: int | None = None
    batch: int | None = None
    epochs: float | None = None
    steps: int | None = None
    minutes: float | None = None
    seed: int = 0
    limit: int | None = None
    init: str | None = None
    options: Mapping[str, Any] | None = None
    training: Mapping[str, Any] | None = None
    accumulate: int = 1
    precision: str = "auto"
    device: str = "auto"
    workers: int = 0
    compile: bool = False
    save_every: int = 500
