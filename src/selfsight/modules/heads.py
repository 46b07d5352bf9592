"""Heads: small networks on top of a backbone."""

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import normalize

__all__ = ["ConstantRate", "UnitLinear", "linear", "mlp", "prototype_head"]


def mlp(*widths: int, norm: bool = True, final: Literal["none", "norm", "plain norm"] = "none") -> nn.Sequential:
    """Multilayer perceptron: linear layers with batch norm and ReLU between them.

    Args:
        *widths: dimensions of input, hidden layers and output.
        norm: batch norm in the hidden layers, whose linear parts then have no bias.
        final: batch norm after the last layer, with (``norm``) or without (``plain norm``) learnt scale and shift.
    """
    layers: list[nn.Module] = []
    pairs = list(pairwise(widths))
    for before, after in pairs[:-1]:
        layers += [nn.Linear(before, after, bias=not norm), nn.BatchNorm1d(after) if norm else nn.Identity(), nn.ReLU(inplace=True)]
    before, after = pairs[-1]
    layers.append(nn.Linear(before, after, bias=final == "none"))
    if final != "none":
        layers.append(nn.BatchNorm1d(after, affine=final == "norm"))
    return nn.Sequential(*layers)


class ConstantRate(nn.Sequential):
    """Layers with a constant learning rate, at its maximum (SimSiam's predictor)."""

    constant_rate = True


def linear(before: int, after: int) -> nn.Linear:
    """A linear classifier, initialised with small normal weights and zero bias.

    Args:
        before: input dimension.
        after: output dimension.
    """
    layer = nn.Linear(before, after)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    return layer


class UnitLinear(nn.Module):
    """Cosine similarities with unit-length rows: last layer of DINO's head, weight-normalised with gain one.

    Args:
        before: input dimension.
        after: number of rows.
    """

    no_weight_decay = True

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.trunc_normal_(nn.Linear(before, after).weight.detach(), std=0.02))

    def forward(self, x: Tensor) -> Tensor:
        return normalize(x) @ normalize(self.weight).to(x.dtype).T


def prototype_head(before: int, prototypes: int, *, hidden: int = 2048, bottleneck: int = 256, norm: bool = False) -> nn.Sequential:
    """DINO's head (Caron et al. 2021, arXiv:2104.14294): three linear layers with GELU, normalisation, unit-length prototypes.

    Args:
        before: input dimension.
        prototypes: number of outputs.
        hidden: dimension of the hidden layers.
        bottleneck: dimension of the normalised vector.
        norm: batch norm before each GELU; the linear parts before it then have no bias.
    """
    layers: list[nn.Module] = []
    for width in (before, hidden):
        layers += [nn.Linear(width, hidden, bias=not norm), nn.BatchNorm1d(hidden) if norm else nn.Identity(), nn.GELU()]
    layers.append(nn.Linear(hidden, bottleneck))
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers, UnitLinear(bottleneck, prototypes))
