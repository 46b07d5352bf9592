"""Metadata of methods, and settings for training."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["SMALL_ADAMW", "Card", "Family", "Kind", "Preset", "Training", "gan_adam", "small_sgd"]

Family = Literal["contrastive", "distillation", "decorrelation", "clustering", "masked", "pretext", "multimodal", "generative", "labelled"]
Kind = Literal["aligning", "discriminative", "clustering", "generative", "labelled"]


@dataclass(frozen=True)
class Card:
    """Metadata of a method.

    Attributes:
        family: its folder.
        kind: aligning (views agree), discriminative (a transformation is predicted), clustering, generative, or labelled (a supervised
            baseline).
        paper: authors, year and arXiv number.
        decks: lecture decks that cover it.
        probe: the measure that decides whether it has learnt, fixed in advance.
        coupled: whether its loss couples the images of a batch, so that gradient accumulation changes it.
    """

    family: Family
    kind: Kind
    paper: str
    decks: tuple[str, ...] = ()
    probe: Literal["knn", "linear"] = "knn"
    coupled: bool = True


@dataclass(frozen=True)
class Training:
    """Optimiser settings.

    The learning rate is ``rate * global_batch / reference_batch``, with linear warm-up over the first ``warmup`` of the run and cosine
    decay to ``final`` times the maximum.

    Attributes:
        optimiser: sgd, lars or adamw.
        rate: learning rate at the reference batch.
        reference_batch: batch size that ``rate`` refers to.
        decay: weight decay; not applied to biases, norms and prototypes.
        warmup: fraction of the run.
        final: last learning rate as a fraction of the maximum.
        clip: maximum norm of the gradient; 0: no clipping.
        momentum: momentum of SGD and LARS.
        betas: β₁ and β₂ of AdamW.
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
    """SGD for short runs of a small network with batches of 32 to 128."""
    return Training("sgd", rate=rate, decay=5e-4, warmup=0.05)


def gan_adam(batch: int, first: float, second: float, rate: float = 2e-4) -> Training:
    """Adam for adversarial networks (Radford et al. 2015, arXiv:1511.06434): constant learning rate, no weight decay.

    Args:
        batch: reference batch.
        first: β₁.
        second: β₂.
        rate: learning rate.
    """
    return Training("adamw", rate=rate, reference_batch=batch, decay=0.0, warmup=0.0, final=1.0, betas=(first, second))


@dataclass(frozen=True)
class Preset:
    """Settings for images of up to 96 px and batches that fit a laptop; all other values are the paper's.

    Attributes:
        training: optimiser settings.
        options: options of the method.
        batch: images in the global batch.
        backbone: name of the backbone.
    """

    training: Training = field(default_factory=Training)
    options: Mapping[str, object] = field(default_factory=dict)
    batch: int = 256
    backbone: str = "resnet_tiny"
