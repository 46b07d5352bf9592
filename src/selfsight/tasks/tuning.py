"""A copy of a network taught further, whole or from a layer on, for a task that labels say.

Steps of AdamW on batches in the order of a run (each epoch one of its own); the rate rises over a tenth of them and falls to zero on a cosine.
Layers before the first that is taught stay as they are, statistics of batch norms too. Convolutions and products run in bfloat16 where that
is faster, losses in float32.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from selfsight.core.card import Training
from selfsight.core.clock import key
from selfsight.core.hooks import find_layer
from selfsight.core.representation import Representation
from selfsight.core.schedule import rise_and_fall
from selfsight.core.views import Images
from selfsight.data.loader import Loader
from selfsight.data.source import Source
from selfsight.engine.hardware import Hardware, fast_bf16, keep_memory
from selfsight.engine.optimisers import make_optimiser

__all__ = ["TuneConfig", "hardware_of", "seeded_rng", "trainable_copy", "tune"]


TRAINING = Training("adamw", decay=0.05, clip=5.0)


@dataclass(frozen=True)
class TuneConfig:
    """How something is taught.

    Attributes:
        steps, batch: how many steps, of how many pictures.
        rate: the highest learning rate.
        seed: of weights that are drawn, of the order, and of crops and flips.
    """

    steps: int = 100
    batch: int = 64
    rate: float = 1e-3
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.steps} steps of {self.batch} pictures, AdamW, highest rate {self.rate:g}, decay {TRAINING.decay:g}"


def hardware_of(phi: Representation) -> Hardware:
    """The network's device, and bfloat16 where it is fast."""
    return Hardware(phi.device, "bf16" if fast_bf16(phi.device) else "fp32")


@contextmanager
def seeded_rng(*parts: int) -> Iterator[None]:
    """Chance of its own inside a ``with``; whoever asks for it afterwards draws what they would have drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(*parts))
        yield


def trainable_copy(phi: Representation, start: str | None = "") -> Representation:
    """A copy whose parameters are taught from a layer on, in the order in which they are defined.

    Args:
        phi: the network.
        start: the first layer that is taught; empty: all are; ``None``: none is.

    Raises:
        UsageError: there is no such layer.
    """
    taught = copy.deepcopy(phi)
    learns = start == ""
    first = next(iter(find_layer(taught.backbone, start).parameters()), None) if start else None
    for weight in taught.backbone.parameters():
        learns = learns or weight is first
        weight.requires_grad_(learns)
    return taught


def _awake(module: nn.Module) -> None:
    """Training mode, but for batch norms that do not learn."""
    module.train()
    for layer in module.modules():
        own = list(layer.parameters(recurse=False))
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and own and not any(weight.requires_grad for weight in own):
            layer.eval()


def tune(
    module: nn.Module, loss: Callable[[Images, int], Float[Tensor, ""]], source: Source, course: TuneConfig, hardware: Hardware
) -> None:
    """Teach all parameters of a module that ask for it; it is in evaluation mode afterwards.

    Args:
        module: what learns, the copied backbone in it.
        loss: of a batch at a step.
        source: the pictures.
        course: how.
        hardware: where and in what precision.

    Raises:
        DataError: there are fewer than two pictures.
    """
    module.to(hardware.device)
    module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if hardware.device.type == "cpu":
        keep_memory()
    learner = make_optimiser(module, replace(TRAINING, rate=course.rate))
    rates = torch.optim.lr_scheduler.LambdaLR(learner, lambda step: rise_and_fall(step, course.steps, TRAINING.warmup))
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    _awake(module)
    loader = Loader(source, batch=min(course.batch, len(source)), seed=course.seed)
    with seeded_rng(course.seed, 0x7E57):  # dropout and stochastic depth inside networks
        for step, batch in enumerate(loader.batches(0, course.steps)):
            value = loss(batch.map(hardware.move), step)
            learner.zero_grad()
            value.backward()
            clip_grad_norm_(weights, TRAINING.clip)
            learner.step()
            rates.step()
    module.eval()
