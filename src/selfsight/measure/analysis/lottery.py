"""Effect of the initial weights of a network.

*Lottery tickets* (Frankle & Carbin 2019, arXiv:1803.03635): iterative magnitude pruning finds a small subnetwork that, trained from the
same initial weights, reaches the score of the full network::

    w ← train(w₀ ⊙ m);   m ← m without the fifth of the remaining weights of each layer with the smallest |w|;   restart from w₀ ⊙ m

Each ticket has a control, the same mask on newly drawn weights: if only the structure mattered, it would reach the same score.

*Agreement of clusterings*: adjusted mutual information between clusterings of features of networks that differ in their initial weights
only, next to that of two clusterings of the same features with different seeds of k-means.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from math import ceil

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from selfsight.core.clock import key
from selfsight.core.errors import UsageError
from selfsight.measure.metrics.agreement import adjusted_mutual_information, contingency
from selfsight.objectives.assign import kmeans

__all__ = ["Agreement", "Masks", "Ticket", "cluster_agreement", "lottery", "masked_weights", "prunable", "prune"]

Masks = dict[str, Tensor]
"""Mask of each pruned weight by its dotted name: True where an entry is kept."""
Train = Callable[[nn.Module], float]
"""Trains a network in place and returns its score, higher is better; it controls the order of data and all other randomness."""
RATE = 0.2


def prunable(network: nn.Module) -> tuple[str, ...]:
    """Names of the weights of convolutions and linear layers, in order; biases and norms are not pruned."""
    types = (nn.Linear, nn.modules.conv._ConvNd)
    return tuple(f"{name}.weight" if name else "weight" for name, layer in network.named_modules() if isinstance(layer, types))


def prune(network: nn.Module, masks: Mapping[str, Tensor], rates: Mapping[str, float]) -> Masks:
    """Remove the smallest remaining weights of each layer from the masks; at least one weight per layer is kept.

    Args:
        network: the trained network.
        masks: masks of the pruned weights by name.
        rates: fraction of the remaining weights to remove by name, rounded up to whole weights.
    """
    weights, pruned = dict(network.named_parameters()), {}
    for name, mask in masks.items():
        magnitudes = weights[name].detach().abs().masked_fill(~mask, torch.inf).flatten()
        count = int(mask.sum())
        removed = magnitudes.argsort(stable=True)[: min(ceil(rates[name] * count), count - 1)]
        kept = mask.flatten().clone()
        kept[removed] = False
        pruned[name] = kept.view_as(mask)
    return pruned


@contextmanager
def masked_weights(network: nn.Module, masks: Mapping[str, Tensor]) -> Iterator[None]:
    """Keep pruned weights at zero inside a ``with`` block and at its end.

    Their gradients are masked as well, so that optimisers created inside the block do not change them.

    Args:
        network: the network, changed in place.
        masks: masks of the pruned weights by name.
    """
    weights = dict(network.named_parameters())

    def gradient_mask(mask: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda gradient: gradient * mask

    def apply() -> None:
        with torch.no_grad():
            for name, mask in masks.items():
                weights[name].mul_(mask)

    apply()
    hooks = [weights[name].register_hook(gradient_mask(mask)) for name, mask in masks.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        apply()


@dataclass(frozen=True)
class Ticket:
    """One pruning round.

    Attributes:
        left: fraction of the prunable weights that is kept.
        score: score of the network trained from its initial weights.
        control: scores of networks with the same mask, trained from newly drawn weights.
        masks: masks of the ticket.
    """

    left: float
    score: float
    control: tuple[float, ...]
    masks: Masks = field(repr=False)


def lottery(
    make: Callable[[int], nn.Module], train: Train, *, rounds: int = 5, rate: float = RATE, last: float = 0.5, controls: int = 1,
    seed: int = 0,
) -> list[Ticket]:  # fmt: skip
    """Train, prune each layer, rewind to the initial weights and train again; the first ticket is the full network.

    Args:
        make: function from a seed to a network with random weights.
        train: trains a network in place and returns its score.
        rounds: number of pruning rounds.
        rate: fraction of the remaining weights that each round removes.
        last: factor of the rate for the last layer (a half, as published).
        controls: networks with the same mask and new weights per round.
        seed: seed of the initial weights.

    Raises:
        UsageError: the network has no weights to prune, or the rate is not between 0 and 1.
    """
    network = make(key(seed, 0))
    names = prunable(network)
    if not names or not 0 < rate < 1:
        raise UsageError(
            f"{len(names)} layers cannot be pruned by {rate:g}.", "Use a network with convolutions or linear layers, and 0 < rate < 1."
        )
    first = {name: value.clone() for name, value in network.state_dict().items()}
    masks: Masks = {name: torch.ones_like(network.get_parameter(name), dtype=torch.bool) for name in names}
    rates = dict.fromkeys(names, rate) | {names[-1]: rate * last}
    tickets = []
    for number in range(rounds + 1):
        network.load_state_dict(first)
        score = _masked_score(network, masks, train)
        fresh = [_masked_score(make(key(seed, 1 + number, 1 + control)), masks, train) for control in range(controls)]
        left = sum(int(mask.sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())
        tickets.append(Ticket(left, score, tuple(fresh), masks))
        masks = prune(network, masks, rates)
    return tickets


def _masked_score(network: nn.Module, masks: Mapping[str, Tensor], train: Train) -> float:
    """Score of a network that is trained with its pruned weights at zero."""
    with masked_weights(network, masks):
        return train(network)


@dataclass(frozen=True)
class Agreement:
    """Adjusted mutual information of clusterings: 0 at chance, 1 if identical.

    Attributes:
        between: agreement of every pair of networks with different initial weights.
        within: agreement of two seeds of k-means on the features of each network, as an upper reference.
    """

    between: Float[np.ndarray, " pair"]
    within: Float[np.ndarray, " network"]


def cluster_agreement(features: Sequence[Float[np.ndarray, "sample _"]], clusters: int, *, restarts: int = 3, seed: int = 0) -> Agreement:
    """Agreement of k-means clusterings of the same samples across networks, on unit-length features.

    Args:
        features: features (N, D) of each network.
        clusters: number of clusters.
        restarts: k-means runs, of which the best is kept.
        seed: seed of k-means.

    Raises:
        UsageError: there are fewer than two networks.
    """
    if len(features) < 2:
        raise UsageError("Agreement needs the features of at least two networks.", "Train a network with another seed.")

    def labels(rows: np.ndarray, run: int) -> np.ndarray:
        unit = normalize(torch.from_numpy(np.array(rows, dtype=np.float32)))
        return kmeans(unit, clusters, seed=key(seed, run), restarts=restarts).labels.numpy()

    def agreement(left: np.ndarray, right: np.ndarray) -> float:
        return adjusted_mutual_information(contingency(left, right))

    found = [labels(rows, 0) for rows in features]
    between = [agreement(left, right) for left, right in combinations(found, 2)]
    within = [agreement(first_labels, labels(rows, 1)) for first_labels, rows in zip(found, features, strict=True)]
    return Agreement(np.array(between), np.array(within))
