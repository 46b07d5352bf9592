"""Games: one network tells, another deceives."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from selfsight.objectives.precision import in_full_precision

__all__ = ["deceive", "distance_between", "slope_penalty", "tell_apart", "told_right"]


@in_full_precision
def tell_apart(real: Float[Tensor, "*batch"], fake: Float[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """``-log σ(D(x)) - log(1 - σ(D(G(z))))``, the mean over the batch of the critic's loss (Goodfellow et al. 2014, arXiv:1406.2661)."""
    return softplus(-real).mean() + softplus(fake).mean()


def told_right(real: Float[Tensor, "*batch"], fake: Float[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """Share of both kinds that the critic is right about, without gradient; half is chance."""
    return ((real.detach() > 0).float().mean() + (fake.detach() < 0).float().mean()) / 2


@in_full_precision
def deceive(fake: Float[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """``-log σ(D(G(z)))``, the generator's non-saturating loss (Goodfellow et al. 2014, section 3)."""
    return softplus(-fake).mean()


@in_full_precision
def distance_between(real: Float[Tensor, "*batch"], fake: Float[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """``E D(x) - E D(G(z))``: the Wasserstein distance that a critic of slope one sees (Arjovsky et al. 2017, arXiv:1701.07875)."""
    return real.mean() - fake.mean()


@in_full_precision
def slope_penalty(gradient: Float[Tensor, "batch *shape"]) -> Float[Tensor, ""]:
    """``E (|∇D(x̂)| - 1)²`` of the critic's gradient at points between real and made ones (Gulrajani et al. 2017, arXiv:1704.00028, eq. 3)."""
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()
