"""A frozen network."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from selfsight.core.representation import Features, Representation

__all__ = ["Frozen"]


class Frozen(nn.Module):
    """A representation applied to views with another normalisation; always in evaluation mode and without gradients.

    Args:
        phi: the representation.
        mean: mean of the views' normalisation, per channel.
        std: standard deviation of the views' normalisation, per channel.
    """

    def __init__(self, phi: Representation, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = phi.backbone.requires_grad_(requires_grad=False).eval()
        self.size, self.dim = phi.size, phi.backbone.dim
        self.scale = [old / new for old, new in zip(std, phi.std, strict=True)]
        self.shift = [(old - new) / width for old, new, width in zip(mean, phi.mean, phi.std, strict=True)]

    def forward(self, views: Float[Tensor, "batch channel height width"]) -> Features:
        scale, shift = (views.new_tensor(values)[:, None, None] for values in (self.scale, self.shift))
        images = views * scale + shift
        if images.shape[-1] != self.size:
            images = interpolate(images, (self.size, self.size), mode="bilinear", antialias=True)
        features = self.network(images)
        return Features(features.pooled.detach(), features.grid.detach())

    def train(self, mode: bool = True) -> "Frozen":  # noqa: FBT001, FBT002
        return super().train(mode=False)
