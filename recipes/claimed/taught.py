"""Networks trained on labelled scenes, for claims on the inside of networks."""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from selfsight.backbones.image.resnet import resnet_tiny
from selfsight.core.representation import Representation
from selfsight.data.opening import open_source
from selfsight.measure.analysis.equivalence import LabelledGrids, StitchEvaluator

SIZE, WIDTH, STEPS, BATCH = 32, 16, 400, 64


@cache
def scenes(split: str, count: int, told: str = "shape", preset: str = "learnable", size: int = SIZE) -> LabelledGrids:
    """Scenes in [0, 1], with the shape or another attribute of the object."""
    source = open_source(f"world:shapes?preset={preset}&count={count}&size={size}&split={split}", size=size)
    rows = np.arange(count)
    truth = source.truth(rows)
    labels = truth.labels if told == "shape" else truth.attributes[told]
    assert labels is not None
    return torch.from_numpy(source.read(rows).images).float() / 255, torch.from_numpy(labels.astype(np.int64))


def teach(module: nn.Module, logits: Callable[[Tensor], Tensor], data: LabelledGrids, *, steps: int = STEPS, seed: int = 0) -> None:
    """Adam on the cross-entropy with a one-cycle learning rate; the seed determines the order of the images."""
    shown, labels = data
    learner = torch.optim.Adam(module.parameters(), lr=3e-3)
    rates = torch.optim.lr_scheduler.OneCycleLR(learner, 3e-3, total_steps=steps)
    rng = torch.Generator().manual_seed(seed)
    order = torch.cat([torch.randperm(len(labels), generator=rng) for _ in range(steps * BATCH // len(labels) + 1)])
    module.train()
    for step in range(steps):
        rows = order[step * BATCH : (step + 1) * BATCH]
        loss = cross_entropy(logits(shown[rows]), labels[rows])
        learner.zero_grad()
        loss.backward()
        learner.step()
        rates.step()
    module.eval()


def judge(data: LabelledGrids, *, seed: int = 0, width: int = WIDTH, steps: int = STEPS, size: int = SIZE) -> StitchEvaluator:
    """A small residual network trained on classes of images."""
    torch.manual_seed(seed)
    backbone = resnet_tiny(size=size, width=width)
    phi = Representation(backbone, mean=(0.5,) * 3, std=(0.25,) * 3, size=size, name=f"taught {seed}", spec=f"resnet_tiny?width={width}")
    head = nn.Linear(backbone.dim, int(data[1].max()) + 1)
    teach(nn.ModuleList([backbone, head]), lambda shown: head(phi.features(shown).pooled), data, steps=steps, seed=seed)
    for weight in (*backbone.parameters(), *head.parameters()):
        weight.requires_grad_(False)  # noqa: FBT003
    return StitchEvaluator(phi, head)
