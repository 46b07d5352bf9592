"""Networks with all implementations of rectifiers and the same weights."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

from selfsight.api import wrap
from selfsight.core.representation import Representation
from selfsight.data.readers.photo import photograph
from selfsight.explain.targets import Target

CLASSES = 5


class Ways(nn.Module):
    """Two convolutions, a pool, a branch and a head; ``way``: implementation of the rectifiers."""

    def __init__(self, way: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.pool, self.head = nn.BatchNorm2d(8), nn.MaxPool2d(2), nn.Linear(8, CLASSES)
        self.acts = nn.ModuleList(nn.ReLU(inplace=way == "in place") for _ in range(1 if way == "reused" else 3))
        self.norm.running_mean.normal_()
        self.way = way

    def act(self, number: int, given: Tensor) -> Tensor:
        ways: dict[str, Callable[[Tensor], Tensor]] = {
            "functional": relu,
            "functional in place": lambda x: relu(x, inplace=True),
            "method": lambda x: x.relu(),
            "method in place": lambda x: x.relu_(),
            "clamp": lambda x: x.clamp(min=0),
            "clamp_min": lambda x: torch.clamp_min(x, 0),
        }
        return ways.get(self.way, self.acts[number % len(self.acts)])(given)

    def forward(self, images: Tensor) -> Tensor:
        low = self.pool(self.act(0, self.first(images)))
        high = self.act(1, self.norm(self.second(low)))
        return self.head(self.act(2, high - 0.5 * low).mean((2, 3)))


WAYS = ("plain", "in place", "reused", "functional", "functional in place", "method", "method in place", "clamp", "clamp_min")


def chain() -> nn.Sequential:
    """A sequence of modules, which every reference package supports."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, CLASSES),
    ).eval()


def phi_of(module: nn.Module, size: int = 16) -> Representation:
    return wrap(module.eval(), mean=(0.5,) * 3, std=(0.2,) * 3, size=size)


def pictures(count: int = 3, size: int = 16) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(2))


def logit(number: int = 1) -> Target:
    return Target(f"logit {number}", lambda rows: rows, number)


class Spot(nn.Module):
    """Returns the amount of detail in a square, independent of its surroundings."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side, self.weight = side, nn.Conv2d(3, 1, 1, bias=False)
        nn.init.constant_(self.weight.weight, 1 / 3)

    def forward(self, images: Tensor) -> Tensor:
        light = self.weight(images)
        low, high = self.side // 8, self.side * 3 // 8
        square = light[:, 0, low:high, low:high]
        return torch.stack([square.diff(dim=2).square().mean((1, 2)), light.mean((1, 2, 3))], 1)


def spot(side: int) -> tuple[Representation, Tensor, Target]:
    coarse = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return phi_of(Spot(side), side), interpolate(coarse, (side, side), mode="bilinear"), logit(0)


def photo(size: int, name: str = "astronaut") -> torch.Tensor:
    pixels = torch.from_numpy(photograph(name).copy()).float()
    side = min(pixels.shape[1:])
    return nn.functional.interpolate(pixels[None, :, :side, :side] / 255, (size, size), mode="bilinear", antialias=True)
