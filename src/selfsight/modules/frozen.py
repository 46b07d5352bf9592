"""A network that does not learn."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from selfsight.core.representation import Features, Representation

__all__ = ["Frozen"]


class Frozen(nn.Module):
    """A representation that is asked about views which were normalised for another; always in evaluation mode, without gradient.

    Args:
        phi: the representation.
        mean, std: per-channel normalisation of the views that it is asked about.
    """

    def __init__(self, phi: Representation, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = phi.backbone.requires_grad_(requires_grad=False).eval()
        self.size, self.dim = phi.size, phi.backbone.dim
        self.scale = [old / new for old, new in zip(std, phi.std, strict=True)]
        self.shift = [(old - new) / width for old, new, width in zip(mean, phi.mean, phi.std, strict=True)]

    def forward(self, views: Float[Tensor, "batch channel height width"]) -> Features:
        scale, shift = (views.new_tensor(values)[:, None, None] for values in (self.scale, self.shift))
        seen = views * scale + shift
        if seen.shape[-1] != self.size:
            seen = interpolate(seen, (self.size, self.size), mode="bilinear", antialias=True)
        found = self.network(seen)
        return Features(found.pooled.detach(), found.grid.detach())

    def train(self, mode: bool = True) -> "Frozen":  # noqa: FBT001, FBT002
        return super().train(mode=False)
