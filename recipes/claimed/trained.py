"""Networks and images shared by the claims about explanations; trained once per process."""

import os
import tempfile
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, linear, pad, relu

from claimed.common import quiet
from selfsight.api import Run, wrap
from selfsight.core.errors import DataError
from selfsight.core.readout import Readout
from selfsight.core.representation import Representation
from selfsight.data.loader import load_images
from selfsight.data.opening import open_source
from selfsight.data.views.image.geometry import central_square
from selfsight.explain.targets import Target, argmax_target, probe_class
from selfsight.workflows.explain_inputs import read_images
from selfsight.workflows.train.config import world_options
from selfsight.workflows.train.request import TrainRequest
from selfsight.workflows.train.run import RunPolicy, run_training

STEPS = 450
_PASSING = tempfile.TemporaryDirectory()
_FOLDER = Path(os.environ.get("SELFSIGHT_CLAIM_RUNS", _PASSING.name))
"""Folder of the networks; finished ones in a folder given by the variable are not trained again."""


def world(split: str, count: int, size: int = 32, more: str = "") -> str:
    """Spec of a set of rendered scenes."""
    return f"world:shapes?count={count}&size={size}&split={split}{more}"


@cache
def trained(seed: int, method: str = "simclr", more: str = "") -> Run:
    """A network trained on 4,000 scenes of 32 px, with a linear probe of the shapes."""
    train, path = world("train", 4000, more=more), _FOLDER / f"{method}{seed}{more.replace('&', '-')}"
    if (path / "measures" / "linear.npz").is_file():
        return Run(path)
    request = TrainRequest(data=train, method=method, size=32, steps=STEPS, seed=seed, options=world_options(method), device="cpu")
    run_training(request, path, RunPolicy(progress=quiet))
    run = Run(path)
    run.measure(train=train, test=world("test", 1000, more=more), probes=["linear"], baselines=False)
    return run


def scenes(run: Run, count: int, more: str = "", size: int = 32, first: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Test scenes in [0, 1], object masks, and classes."""
    spec, rows = world("test", 1000, more=more), np.arange(first, first + count)
    if size == 32:
        asked = read_images([f"{spec}#{first}-{first + count - 1}"], run.phi)
        assert asked.objects is not None
        shown, there = asked.images, asked.objects
    else:
        source = open_source(world("test", 1000, size, more), size=size)
        shown = central_square(load_images(source, rows), size)
        there = torch.from_numpy(np.stack([np.asarray(mask) > 0 for mask in source.truth(rows).masks or []]))
    labels = open_source(spec, size=32).truth(rows).labels
    assert labels is not None
    return shown, there, torch.from_numpy(np.asarray(labels))


def probe(run: Run) -> Target:
    """A class of the run's linear probe."""
    return probe_class(Readout.load(run.path / "measures" / "linear"), 0)


def likeliest(run: Run, shown: Tensor) -> Target:
    """The most probable class of each image."""
    return argmax_target(probe(run), run.phi, shown)


def shared(*parts: str) -> Path:
    """Path of a file of photographs or of published weights.

    Raises:
        DataError: it does not exist.
    """
    path = Path(os.environ.get("SELFSIGHT_SHARED_DATA", ".")).joinpath(*parts)
    if not path.exists():
        raise DataError(f"There is no {path}.", f"Set SELFSIGHT_SHARED_DATA to a folder with {'/'.join(parts)}.")
    return path


class _Basic(nn.Module):
    """Two convolutions and a shortcut without parameters: strided subsampling, padded with zero channels."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)
        self.stride, self.more = stride, (after - before) // 2

    def forward(self, shown: Tensor) -> Tensor:
        kept = pad(shown[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.more, self.more))
        return relu(self.bn2(self.conv2(relu(self.bn1(self.conv1(shown))))) + kept)


class CifarResNet(nn.Module):
    """Residual networks of 6n + 2 layers for images of 32 px (He et al. 2015, arXiv:1512.03385, section 4.2)."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        widths, count = (16, 16, 32, 64), (depth - 2) // 6
        for number, (before, after) in enumerate(pairwise(widths), 1):
            blocks = [
                _Basic(before if first else after, after, 2 if first and number > 1 else 1) for first in (True, *(False,) * (count - 1))
            ]
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, 10)

    def forward(self, shown: Tensor) -> Tensor:
        layers: Any = (self.layer1, self.layer2, self.layer3)
        shown = relu(self.bn1(self.conv1(shown)))
        for layer in layers:
            shown = layer(shown)
        return self.linear(adaptive_avg_pool2d(shown, 1).flatten(1))


def published(depth: int, *, size: int = 32) -> tuple[Representation, Target]:
    """A supervised CIFAR-10 network with published weights, without its classifier, and its logits as a target.

    Raises:
        DataError: the weights do not exist.
    """
    network = CifarResNet(depth)
    network.load_state_dict(load_file(shared("weights", f"resnet{depth}-cifar10.safetensors")), strict=False)
    weight, bias = network.linear.weight.detach(), network.linear.bias.detach()
    trunk = nn.Sequential()
    for name in ("conv1", "bn1"):
        trunk.add_module(name, getattr(network, name))
    trunk.add_module("relu", nn.ReLU())
    for name in ("layer1", "layer2", "layer3"):
        trunk.add_module(name, getattr(network, name))
    phi = wrap(trunk.eval(), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), size=size, name=f"ResNet-{depth} of CIFAR-10")
    return phi, Target("class", lambda rows: linear(rows, weight.to(rows), bias.to(rows)))
