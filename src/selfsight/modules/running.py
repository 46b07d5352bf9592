"""Running mean."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softmax

from selfsight.core.clock import Clock
from selfsight.core.distribute import all_reduce_mean
from selfsight.core.part import Part

__all__ = ["RunningMean"]


class RunningMean(Part):
    """Exponential moving average of the global batch's mean: ``c ← keep c + (1 - keep) mean`` (Caron et al. 2021, arXiv:2104.14294, eq. 4).

    Args:
        dim: length of the vector.
        keep: weight of the old value.
        first: start with the first mean instead of zero.
    """

    value: Tensor

    def __init__(self, dim: int, *, keep: float = 0.9, first: bool = False) -> None:
        super().__init__()
        self.keep, self.first = keep, first
        self.register_buffer("value", torch.zeros(dim))
        self._noted: list[Tensor] = []

    @torch.no_grad()
    def note(self, rows: Float[Tensor, "row dim"]) -> None:
        """Add the mean of these rows, over all processes, after the step."""
        self._noted.append(all_reduce_mean(rows.to(self.value.dtype).mean(0)))

    @torch.no_grad()
    def sharpened(self, logits: Float[Tensor, "row dim"], temperature: float) -> Float[Tensor, "row dim"]:
        """Centred and sharpened target ``softmax((logits - c) / τ)`` of a teacher; the logits' mean is added after the step.

        Args:
            logits: logits of the teacher (N, D).
            temperature: τ.
        """
        self.note(logits)
        return softmax((logits - self.value) / temperature, 1)

    @torch.no_grad()
    def after_step(self, clock: Clock) -> None:
        if self._noted:
            is_first = self.first and not bool(self.value.any())
            self.value.lerp_(torch.stack(self._noted).mean(0), 1.0 if is_first else 1 - self.keep)
        self.discard()

    def discard(self) -> None:
        self._noted = []
