"""Momentum encoder."""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from selfsight.core.clock import Clock
from selfsight.core.part import Chain, Part, run_chain, run_each
from selfsight.core.schedule import Schedule

__all__ = ["Momentum"]


class Momentum(Part):
    """An exponential moving average of a network, without gradients: ``θ' ← m θ' + (1 - m) θ``.

    Only parameters are averaged; batch norm statistics are the copy's own.

    Args:
        online: the network that is averaged.
        rate: m.
        eval_mode: switch off dropout and stochastic depth in the copy.
    """

    def __init__(self, online: Chain, rate: Schedule, *, eval_mode: bool = False) -> None:
        super().__init__()
        self.rate, self.online, self.eval_mode = rate, online, eval_mode  # a Chain is not a Module, so nothing is registered twice
        self.followers = nn.ModuleList(_frozen(deepcopy(link)) for link in online.links)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        return run_chain(self.followers, images)

    @torch.no_grad()
    def each(self, views: Sequence[Tensor]) -> list[Tensor]:
        """Outputs of the copy for every view."""
        return run_each(self.followers, views)

    @torch.no_grad()
    def after_step(self, clock: Clock) -> None:
        slow: list[Tensor] = list(self.followers.parameters())
        fast: list[Tensor] = [parameter for link in self.online.links for parameter in link.parameters()]
        torch._foreach_lerp_(slow, fast, 1 - self.rate(clock))

    def train(self, mode: bool = True) -> "Momentum":  # noqa: FBT001, FBT002
        super().train(mode)
        if self.eval_mode:
            for module in self.followers.modules():
                if isinstance(module, nn.Dropout) or type(module).__name__ == "DropPath":
                    module.eval()
        return self


def _frozen(module: nn.Module) -> nn.Module:
    return module.requires_grad_(requires_grad=False)
