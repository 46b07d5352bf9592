"""Games: one network tells, another deceives."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from selfsight.objectives.precision import in_full_precision

__all__ = ["deceive", "tell_apart"]


@in_full_precision
def tell_apart(real: Float[Tensor, "*batch"], fake: Float[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """``-log σ(D(x)) - log(1 - σ(D(G(z))))``, the mean over the batch of the critic's loss (Goodfellow et al. 2014, arXiv:1406.2661)."""
    return softplus(-real).mean() + softplus(fake).mean()


@in_full_precision
def deceive(fake: Float[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """``-log σ(D(G(z)))``, the generator's non-saturating loss (Goodfellow et al. 2014, section 3)."""
    return softplus(-fake).mean()
