"""Losses of generative adversarial networks (Goodfellow et al. 2014, arXiv:1406.2661): discriminator (critic) and generator."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from selfsight.objectives.precision import in_full_precision

__all__ = ["discriminator_accuracy", "discriminator_loss", "generator_loss", "gradient_penalty", "wasserstein_distance"]


@in_full_precision
def discriminator_loss(real: Float[Tensor, "*batch"], fake: Float[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """``-log σ(D(x)) - log(1 - σ(D(G(z))))``, the discriminator's loss (Goodfellow et al. 2014, arXiv:1406.2661).

    Args:
        real: logits of the discriminator for real samples.
        fake: logits of the discriminator for generated samples.

    Returns:
        The mean over the batch.
    """
    return softplus(-real).mean() + softplus(fake).mean()


def discriminator_accuracy(real: Float[Tensor, "*batch"], fake: Float[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """Accuracy of the discriminator, the mean over real and generated samples, without gradient; 0.5 is chance (Goodfellow et al. 2014).

    Args:
        real: logits of the discriminator for real samples; correct if positive.
        fake: logits of the discriminator for generated samples; correct if negative.
    """
    return ((real.detach() > 0).float().mean() + (fake.detach() < 0).float().mean()) / 2


@in_full_precision
def generator_loss(fake: Float[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """``-log σ(D(G(z)))``, the generator's non-saturating loss (Goodfellow et al. 2014, section 3)."""
    return softplus(-fake).mean()


@in_full_precision
def wasserstein_distance(real: Float[Tensor, "*batch"], fake: Float[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """``E D(x) - E D(G(z))``: the Wasserstein distance as estimated by a 1-Lipschitz critic (Arjovsky et al. 2017, arXiv:1701.07875).

    Args:
        real: scores of the critic for real samples.
        fake: scores of the critic for generated samples.
    """
    return real.mean() - fake.mean()


@in_full_precision
def gradient_penalty(gradient: Float[Tensor, "batch *shape"]) -> Float[Tensor, ""]:
    """Gradient penalty ``E (|∇D(x̂)| - 1)²`` at points between real and generated ones (Gulrajani et al. 2017, arXiv:1704.00028, eq. 3)."""
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()
