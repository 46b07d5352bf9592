"""Image retrieval: all images are ranked by cosine similarity with a query; the score depends on the ranks of the relevant ones.

With the relevant images at ranks ``r_1 < … < r_P`` (counted from 0), average precision is published in two forms::

    step        (1 / P) Σ_j  j / (r_j + 1)
    trapezoid   (1 / P) Σ_j  [(j - 1) / r_j + j / (r_j + 1)] / 2,      the first term being 1 where r_j = 0

The step form is the mean precision at relevant images, as in scikit-learn; the trapezoid form is that of the landmark benchmarks
(Philbin et al. 2007, CVPR; Radenović et al. 2018, arXiv:1803.11285). A single relevant image at the second rank gives 0.5 and 0.25:
results in different forms cannot be compared, so both are reported.
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
from selfsight.data.evaluation_view import evaluation_view
from selfsight.data.loader import load_images
from selfsight.data.source import Source, sample_rows
from selfsight.data.views.image.blur import Blur
from selfsight.data.views.image.colour import Jitter
from selfsight.data.views.image.geometry import Crop, Normalise
from selfsight.data.views.image.recipes import OneCrop, View
from selfsight.measure.results import Features, Score, Scores

__all__ = ["STRONG", "Ranked", "average_precision", "detect_copies", "rank", "retrieve"]

QUERIES, DATABASE_SIZE = 500, 10_000
"""Maximum numbers of queries and of database images."""
FIRST = (1, 5, 10)
DRAWS = 1000
STRONG = View(Crop((0.2, 0.5)), flip=0.5, jitter=Jitter(0.6, 0.6, 0.6, 0.2), grey=0.3, blur=Blur(1.0, 0.5, 2.0), solarise=0.1)
"""Strong augmentation: a crop of a fifth to a half of the image, colour jitter, blur."""
Form = Literal["step", "trapezoid"]


def average_precision(right: Bool[Tensor, "query place"], form: Form = "step") -> Float[Tensor, " query"]:
    """Average precision of each query; NaN if no image is relevant.

    Args:
        right: relevance (Q, N) of the images ranked for each query, best first.
        form: see the module's docstring.
    """
    ranks = torch.arange(right.shape[1], dtype=torch.float64, device=right.device)
    relevant_so_far = right.cumsum(1).double()
    precision = relevant_so_far / (ranks + 1)
    if form == "trapezoid":
        precision_before = torch.where(ranks > 0, (relevant_so_far - 1) / ranks.clamp(min=1), torch.ones_like(ranks))
        precision = (precision + precision_before) / 2
    return (precision * right).sum(1) / right.sum(1)


@dataclass(frozen=True)
class Ranked:
    """Retrieval results of each query that has a relevant image.

    Attributes:
        step: average precision in the step form.
        trapezoid: average precision in the trapezoid form.
        first: rank of the first relevant image, from 0.
    """

    step: Float[np.ndarray, " query"]
    trapezoid: Float[np.ndarray, " query"]
    first: Float[np.ndarray, " query"]

    def scores(self, seed: int = 0) -> dict[str, Score]:
        """Means over queries with bootstrap intervals; ``recall_k``: a relevant image is among the first k."""
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
    """Rank all database images for each query by exact cosine similarity; ties are broken by position.

    Args:
        queries: features (Q, D) of the queries.
        rows: features (N, D) of the database.
        right: function that gives the relevance (q, N) of the database for a slice of queries.
        chunk: queries per chunk.

    Raises:
        DataError: no query has a relevant image.
    """
    database, query_rows = (normalize(torch.from_numpy(np.array(part, dtype=np.float32))) for part in (rows, queries))
    parts: list[Tensor] = []
    for start in range(0, len(query_rows), chunk):
        chunk_slice = slice(start, min(start + chunk, len(query_rows)))
        order = (query_rows[chunk_slice] @ database.T).sort(dim=1, descending=True, stable=True).indices
        ranked = torch.from_numpy(np.ascontiguousarray(right(chunk_slice))).gather(1, order)
        ranked = ranked[ranked.any(1)]
        parts.append(torch.stack([average_precision(ranked), average_precision(ranked, "trapezoid"), ranked.int().argmax(1).double()]))
    step, trapezoid, first = torch.cat(parts, 1).numpy()
    if not len(first):
        raise DataError("No query has a relevant image.", "Use a training and a test part that share classes.")
    return Ranked(step, trapezoid, first)


def retrieve(features: Features, *, queries: int = QUERIES, database_size: int = DATABASE_SIZE, seed: int = 0) -> Scores:
    """Retrieval of training samples of the class of each test sample: mean average precision (both forms), recall at 1, 5 and 10.

    Args:
        features: labelled features.
        queries: maximum number of test samples as queries.
        database_size: maximum number of training samples in the database.
        seed: seed of the subsets and intervals.

    Raises:
        DataError: no query has a relevant image.
    """
    train, labels, test, truth = features.known
    generator = np.random.default_rng(seed)
    kept, chosen_queries = (
        np.sort(generator.permutation(len(part))[:maximum]) for part, maximum in ((train, database_size), (test, queries))
    )
    train, labels, test, truth = train[kept], labels[kept], test[chosen_queries], truth[chosen_queries]
    ranked = rank(test, train, lambda queries_slice: truth[queries_slice, None] == labels)
    protocol = (
        f"{len(test)} test samples as queries among {len(train)} training samples, ranked by cosine similarity of frozen features; relevant: the "
        "same class; map: mean average precision; map_trapezoid: its trapezoidal form of landmark benchmarks; recall_k: a relevant one in the first k"
    )
    return Scores(ranked.scores(seed), protocol)


def detect_copies(
    phi: Representation, source: Source, *, queries: int = QUERIES, database_size: int = DATABASE_SIZE, change: View = STRONG, seed: int = 0,
    bf16: bool = False,
) -> Scores:  # fmt: skip
    """Copy detection: strongly augmented copies of images retrieve their originals.

    The task of Douze et al. 2009 (CIVR), with other augmentations.

    Args:
        phi: the representation.
        source: the data set; labels are not used.
        queries: maximum number of copies.
        database_size: maximum number of images in the database.
        change: augmentation of a copy.
        seed: seed of subsets, augmentations and intervals.
        bf16: compute in bfloat16 where the network supports it.

    Raises:
        DataError: there are fewer than two images.
    """
    if len(source) < 2:
        raise DataError(f"{source.spec} has {len(source)} image(s); copy detection needs two or more.", "Use a larger data set.")
    rows = sample_rows(len(source), database_size, seed)
    chosen_queries = sample_rows(len(rows), queries, seed + 1)
    recipe = OneCrop(change, normalise=Normalise((0.0,) * 3, (1.0,) * 3))
    encoder = make_encoder(phi, bf16=bf16)
    originals, copies = [], []
    with torch.inference_mode():
        for part in _parts(rows):
            originals.append(encoder(evaluation_view(source, phi)(part))[OUTPUT])
        for number, part in enumerate(_parts(rows[chosen_queries])):
            drawn = recipe.draw(len(part), Clock(seed=key(seed, 0xC0B1), step=number), Frame(phi.size, 1))
            copies.append(encoder(recipe.make(load_images(source, part), drawn).large[0].clamp(0, 1).to(phi.device))[OUTPUT])
    database, query_rows = (torch.cat(part).float().cpu().numpy() for part in (originals, copies))
    ranked = rank(query_rows, database, lambda queries_slice: chosen_queries[queries_slice, None] == np.arange(len(rows)))
    protocol = (
        f"strongly transformed copies of {len(chosen_queries)} images as queries for their originals among {len(rows)}, ranked by cosine "
        "similarity; one relevant image each"
    )
    return Scores(ranked.scores(seed), protocol)


def _parts(rows: np.ndarray, size: int = 256) -> Sequence[np.ndarray]:
    return np.array_split(rows, -(-len(rows) // size))
