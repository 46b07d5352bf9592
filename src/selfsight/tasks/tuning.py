"""Fine-tuning of a copy of a network, completely or from a layer on, for a labelled task.

Steps of AdamW on batches in the order of a training run; the learning rate has a linear warm-up over a tenth of them and a cosine decay to
zero. Layers before the first trained one are frozen, including the statistics of their batch norms. Convolutions and matrix products use
bfloat16 where that is faster, losses float32.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from selfsight.core.card import Training
from selfsight.core.clock import key
from selfsight.core.hooks import find_layer
from selfsight.core.layout import to_channels_last
from selfsight.core.representation import Representation
from selfsight.core.rng import seeded_rng
from selfsight.core.schedule import rise_and_fall
from selfsight.core.views import Images
from selfsight.data.loader import Loader
from selfsight.data.source import Source
from selfsight.engine.hardware import Hardware, fast_bf16, keep_memory
from selfsight.engine.optimisers import make_optimiser

__all__ = ["TuneConfig", "hardware_of", "trainable_copy", "tune"]


TRAINING = Training("adamw", decay=0.05, clip=5.0)


@dataclass(frozen=True)
class TuneConfig:
    """Schedule of a fine-tuning.

    Attributes:
        steps: number of steps.
        batch: images per step.
        rate: maximum learning rate.
        seed: seed of new weights, the order, crops and flips.
    """

    steps: int = 100
    batch: int = 64
    rate: float = 1e-3
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.steps} steps of {self.batch} images, AdamW, maximum rate {self.rate:g}, weight decay {TRAINING.decay:g}"


def hardware_of(phi: Representation) -> Hardware:
    """The network's device, with bfloat16 where it is fast."""
    return Hardware(phi.device, "bf16" if fast_bf16(phi.device) else "fp32")


def trainable_copy(phi: Representation, start: str | None = "") -> Representation:
    """A copy of a network whose parameters are trainable from a layer on, in definition order.

    Args:
        phi: the network.
        start: the first trainable layer; empty: all are trainable; ``None``: none.

    Raises:
        UsageError: the layer does not exist.
    """
    copied = copy.deepcopy(phi)
    trainable = start == ""
    first = next(iter(find_layer(copied.backbone, start).parameters()), None) if start else None
    for weight in copied.backbone.parameters():
        trainable = trainable or weight is first
        weight.requires_grad_(trainable)
    return copied


def _training_mode(module: nn.Module) -> None:
    """Training mode, except for frozen batch norms."""
    module.train()
    for layer in module.modules():
        weights = list(layer.parameters(recurse=False))
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and weights and not any(weight.requires_grad for weight in weights):
            layer.eval()


def tune(
    module: nn.Module, loss: Callable[[Images, int], Float[Tensor, ""]], source: Source, config: TuneConfig, hardware: Hardware
) -> None:
    """Train all parameters of a module that require gradients; it is in evaluation mode afterwards.

    Args:
        module: the module, which contains the copied backbone.
        loss: function of a batch and a step.
        source: training images.
        config: the schedule.
        hardware: device and precision.

    Raises:
        DataError: there are fewer than two images.
    """
    module.to(hardware.device)
    to_channels_last(module)
    if hardware.device.type == "cpu":
        keep_memory()
    optimiser = make_optimiser(module, replace(TRAINING, rate=config.rate))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rise_and_fall(step, config.steps, TRAINING.warmup))
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    _training_mode(module)
    loader = Loader(source, batch=min(config.batch, len(source)), seed=config.seed)
    with seeded_rng(key(config.seed, 0x7E57)):  # dropout and stochastic depth inside networks
        for step, batch in enumerate(loader.batches(0, config.steps)):
            total = loss(batch.map(hardware.move), step)
            optimiser.zero_grad()
            total.backward()
            clip_grad_norm_(weights, TRAINING.clip)
            optimiser.step()
            schedule.step()
    module.eval()
