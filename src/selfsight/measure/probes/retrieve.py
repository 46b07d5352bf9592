"""Retrieval: of all pictures ranked by their likeness to one that is asked for, how early are the right ones.

With the right ones at ranks ``r_1 < … < r_P`` (counted from 0), average precision is published in two forms::

    step        (1 / P) Σ_j  j / (r_j + 1)
    trapezoid   (1 / P) Σ_j  [(j - 1) / r_j + j / (r_j + 1)] / 2,      the first term being 1 where r_j = 0

The step form is the mean precision at right ones, scikit-learn's; the trapezoid form is that of the landmark benchmarks (Philbin et
al. 2007, CVPR; Radenović et al. 2018, arXiv:1803.11285). A single right picture in second place gives 0.5 and 0.25: tables that mix
both cannot be compared, so both are given.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

from selfsight.bank.extract import make_encoder
from selfsight.bank.store import OUTPUT
from selfsight.core.clock import Clock, key
from selfsight.core.errors import DataError
from selfsight.core.method import Frame
from selfsight.core.representation import Representation
from selfsight.data.loader import load_images
from selfsight.data.source import Source, sample_rows
from selfsight.data.views.image.blur import Blur
from selfsight.data.views.image.colour import Jitter
from selfsight.data.views.image.geometry import Crop, Normalise, central_square
from selfsight.data.views.image.recipes import OneCrop, View
from selfsight.measure.results import Features, Score, Scores

__all__ = ["STRONG", "Ranked", "average_precision", "detect_copies", "rank", "retrieve"]

QUERIES, PICTURES = 500, 10_000
"""At most so many are asked for, among at most so many."""
FIRST = (1, 5, 10)
DRAWS = 1000
STRONG = View(Crop((0.2, 0.5)), flip=0.5, jitter=Jitter(0.6, 0.6, 0.6, 0.2), grey=0.3, blur=Blur(1.0, 0.5, 2.0), solarise=0.1)
"""A strong change of a picture: a fifth to a half of it, other colours, blur."""
Form = Literal["step", "trapezoid"]


def average_precision(right: Bool[Tensor, "query place"], form: Form = "step") -> Float[Tensor, " query"]:
    """Average precision of each row of right and wrong ones, best first; not a number where none is right."""
    places = torch.arange(right.shape[1], dtype=torch.float64, device=right.device)
    found = right.cumsum(1).double()
    here = found / (places + 1)
    if form == "trapezoid":
        before = torch.where(places > 0, (found - 1) / places.clamp(min=1), torch.ones_like(places))
        here = (here + before) / 2
    return (here * right).sum(1) / right.sum(1)


@dataclass(frozen=True)
class Ranked:
    """For each picture asked for that has a right one: both average precisions, and the rank of the first right one."""

    step: Float[np.ndarray, " query"]
    trapezoid: Float[np.ndarray, " query"]
    first: Float[np.ndarray, " query"]

    def scores(self, seed: int = 0) -> dict[str, Score]:
        """Means with their bootstrap intervals over what was asked for; ``recall_k``: a right one is among the first k."""
        values = {"map": self.step, "map_trapezoid": self.trapezoid} | {f"recall_{k}": self.first < k for k in FIRST}
        drawn = np.random.default_rng(seed).integers(0, len(self.first), (DRAWS, len(self.first)))
        bounds = {name: np.quantile(value[drawn].mean(1), (0.025, 0.975)) for name, value in values.items()}
        return {name: Score(float(value.mean()), *map(float, bounds[name])) for name, value in values.items()}


def rank(
    queries: Float[np.ndarray, "query dim"],
    rows: Float[np.ndarray, "sample dim"],
    right: Callable[[slice], Bool[np.ndarray, "some sample"]],
    *,
    chunk: int = 256,
) -> Ranked:
    """Rank all rows by their cosine with each query, exactly; of equals the first comes first.

    Args:
        queries: features of what is asked for.
        rows: features of what it is looked for among.
        right: which rows are right ones for some queries.
        chunk: queries at a time.

    Raises:
        DataError: there is no right one for any query.
    """
    bank, asked = (normalize(torch.from_numpy(np.array(part, dtype=np.float32))) for part in (rows, queries))
    parts: list[Tensor] = []
    for start in range(0, len(asked), chunk):
        some = slice(start, min(start + chunk, len(asked)))
        order = (asked[some] @ bank.T).sort(dim=1, descending=True, stable=True).indices
        ranked = torch.from_numpy(np.ascontiguousarray(right(some))).gather(1, order)
        ranked = ranked[ranked.any(1)]
        parts.append(torch.stack([average_precision(ranked), average_precision(ranked, "trapezoid"), ranked.int().argmax(1).double()]))
    step, trapezoid, first = torch.cat(parts, 1).numpy()
    if not len(first):
        raise DataError("There is no right picture for any that is asked for.", "Give parts that share classes.")
    return Ranked(step, trapezoid, first)


def retrieve(features: Features, *, queries: int = QUERIES, pictures: int = PICTURES, seed: int = 0) -> Scores:
    """Test samples ask for training samples of their class: mean average precision (both forms), and recall among the first 1, 5, 10."""
    train, labels, test, truth = features.known
    generator = np.random.default_rng(seed)
    kept, asked = (np.sort(generator.permutation(len(part))[:most]) for part, most in ((train, pictures), (test, queries)))
    train, labels, test, truth = train[kept], labels[kept], test[asked], truth[asked]
    found = rank(test, train, lambda some: truth[some, None] == labels)
    words = (
        f"{len(test)} test samples ask for those of their class among {len(train)} training samples, ranked by cosine of frozen features; "
        "map: mean precision at right ones; map_trapezoid: the landmark benchmarks' form; recall_k: one of the first k is right"
    )
    return Scores(found.scores(seed), words)


def detect_copies(
    phi: Representation,
    source: Source,
    *,
    queries: int = QUERIES,
    pictures: int = PICTURES,
    change: View = STRONG,
    seed: int = 0,
    bf16: bool = False,
) -> Scores:
    """Strongly changed copies of some pictures ask for their originals among all others (Douze et al. 2009, CIVR, by our own changes).

    Args:
        phi: the representation.
        source: the data set; no label is read.
        queries, pictures: at most so many copies, among at most so many pictures, drawn by the seed.
        change: how a copy is made.
        seed: of draws and changes.
        bf16: compute in bfloat16 where the network allows.

    Raises:
        DataError: there are fewer than two pictures.
    """
    if len(source) < 2:
        raise DataError(f"{source.spec} has {len(source)} picture to tell from others.", "Give more pictures.")
    rows = sample_rows(len(source), pictures, seed)
    asked = sample_rows(len(rows), queries, seed + 1)
    recipe = OneCrop(change, normalise=Normalise((0.0,) * 3, (1.0,) * 3))
    encoder = make_encoder(phi, bf16=bf16)
    originals, copies = [], []
    with torch.inference_mode():
        for part in _parts(rows):
            originals.append(encoder(central_square(load_images(source, part).map(lambda tensor: tensor.to(phi.device)), phi.size))[OUTPUT])
        for number, part in enumerate(_parts(rows[asked])):
            drawn = recipe.draw(len(part), Clock(seed=key(seed, 0xC0B1), step=number), Frame(phi.size, 1))
            copies.append(encoder(recipe.make(load_images(source, part), drawn).large[0].clamp(0, 1).to(phi.device))[OUTPUT])
    bank, given = (torch.cat(part).float().cpu().numpy() for part in (originals, copies))
    found = rank(given, bank, lambda some: asked[some, None] == np.arange(len(rows)))
    words = f"strongly changed copies of {len(asked)} pictures ask for their originals among {len(rows)}, by cosine; one right picture each"
    return Scores(found.scores(seed), words)


def _parts(rows: np.ndarray, size: int = 256) -> Sequence[np.ndarray]:
    return np.array_split(rows, -(-len(rows) // size))
