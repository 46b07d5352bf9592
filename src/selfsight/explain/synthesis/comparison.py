"""Several networks beside each other: what their units of the same rank like most."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from selfsight.core.errors import UsageError
from selfsight.core.hooks import eval_mode
from selfsight.core.representation import Representation
from selfsight.explain.attribution.saliency import parts
from selfsight.explain.gallery import Gallery
from selfsight.explain.synthesis.activation import Fourier, Parameterisation, maximise
from selfsight.explain.targets import unit
from selfsight.render.sheet import Tile

__all__ = ["compare_units", "layer_at", "ranked_units", "responses"]


def layer_at(phi: Representation, depth: float) -> str:
    """The layer at a depth between 0 (the first worth looking at) and 1 (the last)."""
    return phi.layers[round(depth * (len(phi.layers) - 1))]


def responses(phi: Representation, images: Num[Tensor, "batch channel height width"], layer: str) -> Float[Tensor, "batch unit"]:
    """What each unit says of each image: the mean over places."""
    with torch.no_grad(), eval_mode(phi.backbone):
        return torch.cat([unit(layer, 0).numbers(phi, phi.normalise(part)).cpu() for _, part in parts(images, phi.device)])


def ranked_units(said: Float[Tensor, "batch unit"]) -> Int[Tensor, " unit"]:
    """Units by how much they tell images apart: the variance of what they say in parts of its mean square, the largest first."""
    return (said.var(0, correction=0) / said.square().mean(0).clamp(min=1e-12)).argsort(descending=True, stable=True)


def compare_units(
    networks: Mapping[str, Representation],
    images: Mapping[str, Num[Tensor, "batch 3 side side2"]],
    *,
    depth: float = 0.5,
    ranks: Sequence[int] = (0, 1, 2, 3),
    writing: Parameterisation = Fourier(),
    steps: int = 200,
    seed: int = 0,
) -> Gallery:
    """A row a network, a column a rank: the picture that the unit of this rank likes most, at the same depth of each.

    Args:
        networks: by name.
        images: real images for each network, by which its units are ranked.
        depth: between 0 (the first layer worth looking at) and 1 (the last).
        ranks: of units, from 0.
        writing, steps, seed: as for ``maximise``.

    Raises:
        UsageError: a layer has fewer units.
    """
    rows: dict[str, list[Tile]] = {}
    for name, phi in networks.items():
        layer = layer_at(phi, depth)
        said = responses(phi, images[name], layer)
        if max(ranks) >= said.shape[1]:
            raise UsageError(f"{layer} of {name} has {said.shape[1]} units, and rank {max(ranks)} was asked for.", "Ranks begin at 0.")
        units = ranked_units(said)[torch.tensor(ranks)]
        found = maximise(phi, unit(layer, units), count=len(ranks), writing=writing, steps=steps, seed=seed)
        above = (found.scores.cpu()[None] > said[:, units]).float().mean(0)
        rows[name] = [
            Tile(
                picture.permute(1, 2, 0).numpy(),
                f"{layer}/{int(number)}\n{float(score):.3g}: above {100 * float(part):.0f} % of the images",
                {"unit": float(number), "score": float(score), "above": float(part)},
            )
            for picture, number, score, part in zip(found.pictures, units, found.scores, above, strict=True)
        ]
    return Gallery(rows, {"depth": depth, "ranks": list(ranks), "steps": steps, "seed": seed})
