"""Kinds of things in a data set's pictures, without labels: segments of each picture, and the clusters that they fall into.

A segmenter cuts each picture into pieces and gives a vector for each piece. The vectors of all pictures are clustered (spherical
k-means), and each piece is painted with its cluster's number, from 1; 0 is ground. Pictures are passed through in batches: what is
held of all of them is their maps.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from selfsight.core.cache import Arrays, mark_of
from selfsight.core.errors import UsageError
from selfsight.core.names import look_up
from selfsight.core.progress import Say, quiet
from selfsight.core.representation import Representation
from selfsight.data.source import Rows, Source
from selfsight.discover.dense.features import Look, Looked, looks
from selfsight.discover.dense.sample import Sample
from selfsight.discover.segments.maps import Segmented, edged, with_maps
from selfsight.discover.segments.segmenters import COLOURS_ALONE, PLACES, SEGMENTERS, Pieces
from selfsight.objectives.agree import mutual_information
from selfsight.objectives.assign import kmeans

__all__ = ["Segmented", "segment_pictures"]

GROUNDLESS = (*PLACES, "iic")
"""Those for which ground is a kind like others; they find one kind more."""


@dataclass(frozen=True)
class _Cut:
    """A data set's pictures cut into pieces, passed through as often as is needed."""

    batches: Callable[[], Iterator[Looked]]
    method: str
    options: dict[str, Any]
    memory: dict[tuple[int, ...], list[Pieces]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[tuple[Looked, list[Pieces]]]:
        finder = partial(SEGMENTERS[look_up("segmenter", self.method, SEGMENTERS)], **self.options)
        for looked in self.batches():
            yield looked, finder(looked) if self.method in PLACES else self._once(looked, finder)

    def _once(self, looked: Looked, finder: Callable[[Looked], list[Pieces]]) -> list[Pieces]:
        """Pieces that are costly to find are found once: kept on disk where there is a folder for that, else held."""
        if looked.kept is None:
            if looked.rows not in self.memory:
                self.memory[looked.rows] = finder(looked)
            return self.memory[looked.rows]
        name = f"pieces-{mark_of(self.method, sorted(self.options.items()))[:12]}"
        found = looked.kept.once(name, looked.rows, lambda: _packed(finder(looked)))
        return [Pieces(found[f"numbers{row}"], torch.from_numpy(found[f"vectors{row}"])) for row in range(len(looked))]


def _packed(pieces: Sequence[Pieces]) -> Arrays:
    numbers = {f"numbers{row}": one.numbers for row, one in enumerate(pieces)}
    return numbers | {f"vectors{row}": one.vectors.cpu().numpy() for row, one in enumerate(pieces)}


@torch.no_grad()
def segment_pictures(
    phi: Representation,
    source: Source,
    method: str = "spectral",
    *,
    kinds: int = 10,
    look: Look | None = None,
    refine: bool = False,
    learn: bool = False,
    rows: Rows | None = None,
    kept: Path | None = None,
    seed: int = 0,
    say: Say = quiet,
    **options: Any,
) -> Segmented:
    """Kinds of things in a data set's pictures.

    Args:
        phi, source: the representation, the data set.
        method: a name of ``SEGMENTERS``, or ``iic``: a linear layer over places that tells a flipped picture's kinds alike and fills
            all kinds (Ji et al. 2018, arXiv:1807.06653).
        kinds: how many, without ground.
        look: at which scale, which features and how many eigenvectors; 15 unless it says.
        refine, learn: move edges to those of colours; a linear layer over places learns the kinds and paints again (self-training).
        rows, seed: which pictures, all by default; of all chance.
        kept, say, options: a folder in which eigenvectors and pieces are kept; called with how far it is; of the segmenter.

    Raises:
        UsageError: there is no such segmenter, or there are fewer pieces than kinds.
    """
    batches = partial(looks, phi, source, look or Look(vectors=15), rows=rows, kept=kept)
    look_up("segmenter", method, (*SEGMENTERS, "iic"))
    kinds += method in GROUNDLESS
    cut = _Cut(batches, "patch" if method == "iic" else method, options)
    told = _iic_head(batches, kinds, seed, say) if method == "iic" else _nearest_kind(cut, kinds, seed, say)
    facts = {"method": method, "kinds": kinds, "representation": phi.name, "data": source.spec, **options}
    found = Segmented.of(((looked, _numbers(pieces, told)) for looked, pieces in cut), kinds, facts)
    for wanted, again in ((learn, _learnt), (refine, edged)):
        found = replace(found, maps=tuple(again(batches, found.maps, kinds))) if wanted else found
    return found


Told = Callable[[Float[Tensor, "piece dim"]], Int[Tensor, " piece"]]
"""From vectors of pieces to their kinds, from 1."""


def _nearest_kind(cut: _Cut, kinds: int, seed: int, say: Say) -> Told:
    """The nearest of the centroids of a sample of all pieces."""
    sample, pictures, unit = Sample(seed), 0, cut.method != COLOURS_ALONE
    for looked, pieces in cut:
        for one in pieces:
            sample.add(one.vectors.float())
        pictures += len(looked)
        say(f"{cut.method}: {pictures:,} pictures in pieces") if pictures % 64 < len(looked) else None
    (vectors,) = sample.rows()
    if len(vectors) < kinds:
        raise UsageError(f"The pictures have {len(vectors)} pieces, too few for {kinds} kinds.", "Ask for fewer kinds.")
    centres = kmeans(vectors, kinds, seed=seed, spherical=unit, restarts=3).centroids

    def told(vectors: Tensor) -> Tensor:
        given = vectors.float().cpu()
        return torch.cdist(normalize(given) if unit else given, centres).argmin(1) + 1

    return told


def _numbers(pieces: Sequence[Pieces], told: Told) -> list[Int[np.ndarray, "_ _"]]:
    """The kind at each place of each picture."""
    return [np.concatenate([[0], told(one.vectors).cpu().numpy()])[one.numbers] for one in pieces]


def _places(looked: Looked) -> Float[Tensor, "place dim"]:
    return normalize(looked.features.flatten(2), dim=1).transpose(1, 2).flatten(0, 1).cpu()


def _learnt(batches: Callable[[], Iterator[Looked]], maps: Sequence[np.ndarray], kinds: int) -> list[np.ndarray]:
    """What a linear layer over places makes of the maps: a softmax regression with ``1e-4 |W|²``, to its optimum."""
    sample = Sample(0)
    for looked, some in with_maps(batches(), maps):
        sample.add(_places(looked), torch.from_numpy(np.concatenate([one.ravel() for one in some])))
    rows, labels = sample.rows()
    rows = rows.double()
    weight = torch.zeros(kinds + 1, rows.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> float:
        with torch.enable_grad():
            optimiser.zero_grad()
            value = cross_entropy(rows @ weight[:, :-1].T + weight[:, -1], labels) + 1e-4 * weight[:, :-1].square().sum()
            value.backward()
        return value.item()

    optimiser.step(loss)
    fitted = weight.detach().float()
    found = list[np.ndarray]()
    for looked, some in with_maps(batches(), maps):
        told = (_places(looked) @ fitted[:, :-1].T + fitted[:, -1]).argmax(1)
        found += [part.reshape(one.shape).numpy() for part, one in zip(told.split([one.size for one in some]), some, strict=True)]
    return found


def _iic_head(batches: Callable[[], Iterator[Looked]], kinds: int, seed: int, say: Say) -> Told:
    """A linear layer over places whose kinds are the same in a flipped picture, and tell as much as they can."""
    sample = Sample(seed)
    for looked in batches():
        turned = Looked(looked.phi, looked.pixels.flip(3), looked.look).features.flip(3)
        sample.add(*(side.flatten(2).transpose(1, 2).flatten(0, 1) for side in (looked.features, turned)))
    one, other = sample.rows()
    generator = torch.Generator().manual_seed(seed)
    scale = one.std(0).clamp(min=1e-6)
    heads = [nn.Linear(one.shape[1], kinds) for _ in range(5)]
    for head in heads:
        nn.init.normal_(head.weight, std=one.shape[1] ** -0.5, generator=generator)
        nn.init.zeros_(head.bias)
    told = torch.zeros(len(heads))
    optimiser = torch.optim.Adam([parameter for head in heads for parameter in head.parameters()], lr=1e-2)
    with torch.enable_grad():
        for step in range(300):
            drawn = torch.randint(len(one), (min(4096, 4 * len(one)),), generator=generator)
            pairs = [[head(side[drawn] / scale).softmax(1) for side in (one, other)] for head in heads]
            shared = torch.stack([mutual_information(*pair) for pair in pairs])
            optimiser.zero_grad()
            (-shared.sum()).backward()
            optimiser.step()
            told = shared.detach()
            if step % 100 == 99:
                say(f"iic: step {step + 1}, {told.max():.2f} nats")
    best = heads[int(told.argmax())]
    return lambda vectors: best(vectors.float().cpu() / scale).argmax(1) + 1
