"""What a method says of itself, and the settings that it was published or tuned with."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["SMALL_ADAMW", "Card", "Family", "Kind", "Preset", "Training", "gan_adam", "small_sgd"]

Family = Literal["contrastive", "distillation", "decorrelation", "clustering", "masked", "pretext", "multimodal", "generative", "labelled"]
Kind = Literal["aligning", "discriminative", "clustering", "generative", "labelled"]


@dataclass(frozen=True)
class Card:
    """Who a method is.

    Attributes:
        family: the folder that it lives in.
        kind: aligning (views agree), discriminative (a transformation is predicted), clustering, generative, or labelled (a baseline
            that is told the classes).
        paper: authors, year and arXiv number.
        decks: the lecture decks that teach it.
        probe: the measure that decides whether it has learnt, chosen before it was tried.
        coupled: whether its loss couples the images of a batch, so that accumulating smaller batches changes it.
    """

    family: Family
    kind: Kind
    paper: str
    decks: tuple[str, ...] = ()
    probe: Literal["knn", "linear"] = "knn"
    coupled: bool = True


@dataclass(frozen=True)
class Training:
    """How a method is optimised.

    The learning rate is ``rate * global_batch / reference_batch``; it rises over the first ``warmup`` of the run
    and falls on half a cosine to ``final`` times itself.

    Attributes:
        optimiser: sgd, lars or adamw.
        rate: learning rate at the reference batch.
        reference_batch: images in the batch that ``rate`` is meant for.
        decay: weight decay; left off biases, norms and prototypes.
        warmup: fraction of the run.
        final: the last learning rate as a fraction of the highest.
        clip: largest norm of the gradient; 0 leaves it alone.
        momentum: of SGD and LARS.
        betas: of AdamW.
    """

    optimiser: Literal["sgd", "lars", "adamw"] = "sgd"
    rate: float = 0.06
    reference_batch: int = 256
    decay: float = 5e-4
    warmup: float = 0.1
    final: float = 0.0
    clip: float = 0.0
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)


SMALL_ADAMW = Training("adamw", rate=4e-3, decay=0.04, warmup=0.1, clip=5.0)
"""For short runs of a small network with batches of 32 to 128."""


def small_sgd(rate: float) -> Training:
    """For short runs of a small network with batches of 32 to 128."""
    return Training("sgd", rate=rate, decay=5e-4, warmup=0.05)


def gan_adam(batch: int, first: float, second: float, rate: float = 2e-4) -> Training:
    """For networks that play against each other (Radford et al. 2015, arXiv:1511.06434): a constant rate, no decay."""
    return Training("adamw", rate=rate, reference_batch=batch, decay=0.0, warmup=0.0, final=1.0, betas=(first, second))


@dataclass(frozen=True)
class Preset:
    """Options and optimisation for images of 96 px or less and batches that fit a laptop; other values are the paper's."""

    training: Training = field(default_factory=Training)
    options: Mapping[str, object] = field(default_factory=dict)
    batch: int = 256
    backbone: str = "resnet_tiny"
