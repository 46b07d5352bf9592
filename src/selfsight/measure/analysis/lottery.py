"""What the weights that a network starts from decide.

*Lottery tickets* (Frankle & Carbin 2019, arXiv:1803.03635): a network that is trained and pruned by size finds a small one that, trained
alone from the same first weights, does as well::

    w ← train(w₀ ⊙ m);   m ← m without the fifth of what is left in each layer that is smallest in |w|;   again from w₀ ⊙ m

Beside each ticket stands the same mask on weights that are drawn anew (control): if only the form mattered, it would do as well.

*Agreement of clusterings*: features of networks that differ in their first weights alone, clustered, and how far the clusterings agree
(adjusted for chance), beside the agreement of two clusterings of the same features by other seeds of k-means.
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
"""Of each weight that is pruned, by its dotted name: which of its numbers are left."""
Train = Callable[[nn.Module], float]
"""Trains a network in place and gives its score, the higher the better; the order of data and all other chance are its own."""
RATE = 0.2


def prunable(network: nn.Module) -> tuple[str, ...]:
    """Names of the weights of convolutions and linear layers, in their order; biases and norms are left alone."""
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    return tuple(f"{name}.weight" if name else "weight" for name, layer in network.named_modules() if isinstance(layer, kinds))


def prune(network: nn.Module, masks: Mapping[str, Tensor], rates: Mapping[str, float]) -> Masks:
    """The masks without the smallest of the weights that are left, so large a part of each layer, rounded up; one weight at least stays."""
    weights, left = dict(network.named_parameters()), {}
    for name, mask in masks.items():
        sizes = weights[name].detach().abs().masked_fill(~mask, torch.inf).flatten()
        count = int(mask.sum())
        gone = sizes.argsort(stable=True)[: min(ceil(rates[name] * count), count - 1)]
        after = mask.flatten().clone()
        after[gone] = False
        left[name] = after.view_as(mask)
    return left


@contextmanager
def masked_weights(network: nn.Module, masks: Mapping[str, Tensor]) -> Iterator[None]:
    """Pruned weights are zero inside a ``with`` and at its end, and get no gradient, so that optimisers that start inside leave them so."""
    weights = dict(network.named_parameters())

    def still(mask: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda slope: slope * mask

    def clear() -> None:
        with torch.no_grad():
            for name, mask in masks.items():
                weights[name].mul_(mask)

    clear()
    hooks = [weights[name].register_hook(still(mask)) for name, mask in masks.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        clear()


@dataclass(frozen=True)
class Ticket:
    """One round.

    Attributes:
        left: the part of the weights that is left, of those that are pruned.
        score: of the network trained from its first weights.
        control: of each network with the same mask, trained from weights drawn anew.
        masks: of the ticket.
    """

    left: float
    score: float
    control: tuple[float, ...]
    masks: Masks = field(repr=False)


def lottery(
    make: Callable[[int], nn.Module],
    train: Train,
    *,
    rounds: int = 5,
    rate: float = RATE,
    last: float = 0.5,
    controls: int = 1,
    seed: int = 0,
) -> list[Ticket]:
    """Train, prune by layer, rewind to the first weights and train again; the first of the tickets is the whole network.

    Args:
        make: a network whose weights are drawn by a seed.
        train: trains it in place and gives its score.
        rounds, rate: of pruning; the part of what is left that goes in each.
        last: the part of the rate that holds for the last layer (a half, as published).
        controls, seed: networks with the same mask and new weights, for each round; of the first weights.

    Raises:
        UsageError: the network has no weights to prune, or there is no such rate.
    """
    network = make(key(seed, 0))
    names = prunable(network)
    if not names or not 0 < rate < 1:
        raise UsageError(f"{len(names)} layers cannot be pruned by {rate:g}.", "Give convolutions or linear layers, 0 < rate < 1.")
    first = {name: value.clone() for name, value in network.state_dict().items()}
    masks: Masks = {name: torch.ones_like(network.get_parameter(name), dtype=torch.bool) for name in names}
    rates = dict.fromkeys(names, rate) | {names[-1]: rate * last}
    tickets = []
    for number in range(rounds + 1):
        network.load_state_dict(first)
        score = _taught(network, masks, train)
        fresh = [_taught(make(key(seed, 1 + number, 1 + control)), masks, train) for control in range(controls)]
        left = sum(int(mask.sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())
        tickets.append(Ticket(left, score, tuple(fresh), masks))
        masks = prune(network, masks, rates)
    return tickets


def _taught(network: nn.Module, masks: Mapping[str, Tensor], train: Train) -> float:
    """The score of a network that is trained with what is pruned at zero."""
    with masked_weights(network, masks):
        return train(network)


@dataclass(frozen=True)
class Agreement:
    """Adjusted mutual information of clusterings, 0 at chance and 1 where they are the same.

    Attributes:
        between: of networks of two initialisations each, every pair.
        within: of the features of each network, two seeds of k-means: what is left to agree with.
    """

    between: Float[np.ndarray, " pair"]
    within: Float[np.ndarray, " network"]


def cluster_agreement(features: Sequence[Float[np.ndarray, "sample _"]], clusters: int, *, restarts: int = 3, seed: int = 0) -> Agreement:
    """How far clusterings agree over initialisations: k-means on unit-length features of the same samples by several networks.

    Args:
        features: one row a sample, of each network.
        clusters: how many.
        restarts: of k-means; the best counts.
        seed: of k-means.

    Raises:
        UsageError: there are fewer than two networks.
    """
    if len(features) < 2:
        raise UsageError("Agreement needs the features of two networks or more.", "Train another seed.")

    def labels(rows: np.ndarray, turn: int) -> np.ndarray:
        unit = normalize(torch.from_numpy(np.array(rows, dtype=np.float32)))
        return kmeans(unit, clusters, seed=key(seed, turn), restarts=restarts).labels.numpy()

    def agreed(left: np.ndarray, right: np.ndarray) -> float:
        return adjusted_mutual_information(contingency(left, right))

    found = [labels(rows, 0) for rows in features]
    between = [agreed(left, right) for left, right in combinations(found, 2)]
    within = [agreed(one, labels(rows, 1)) for one, rows in zip(found, features, strict=True)]
    return Agreement(np.array(between), np.array(within))
