"""Kinds of things in a data set's pictures, without labels: segments of each picture, and the clusters that they fall into.

A segmenter cuts each picture into pieces and gives a vector for each piece. The vectors of all pictures are clustered (spherical
k-means), and each piece is painted with its cluster's number, from 1; 0 is ground. Pictures are passed through in batches: what is
held of all of them is their maps.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy, interpolate, normalize, one_hot

from selfsight.core.errors import UsageError
from selfsight.core.names import look_up
from selfsight.core.representation import Representation
from selfsight.core.say import Say, quiet
from selfsight.data.source import Rows, Source
from selfsight.discover.kept import Arrays, mark_of
from selfsight.discover.looked import Look, Looked, Size, looks
from selfsight.discover.pages import SHOWN, many_colours, mask_files, page, painted, stretched
from selfsight.discover.refine import Field, cells_of, mean_field
from selfsight.discover.segmenters import COLOURS_ALONE, PLACES, SEGMENTERS, Pieces
from selfsight.objectives.agree import mutual_information
from selfsight.objectives.assign import kmeans

__all__ = ["Segmented", "segment_pictures"]

FITTED = 50_000
"""Rows that anything is fitted on at most, drawn by the seed."""
GROUNDLESS = (*PLACES, "iic")
"""Those for which ground is a kind like others; they find one kind more."""


@dataclass(frozen=True)
class Segmented:
    """Kinds of things at every place of some pictures.

    Attributes:
        names: of the pictures.
        sizes: (height, width) of the picture files in pixels.
        read: (height, width) as the data set gives them.
        maps: the kind at each place, from 1; 0 is ground.
        kinds: how many there are, without ground.
        pictures: small copies of the first.
        facts: how it was done.
    """

    names: tuple[str, ...]
    sizes: tuple[Size, ...]
    read: tuple[Size, ...]
    maps: tuple[Int[np.ndarray, "rows columns"], ...]
    kinds: int
    pictures: tuple[np.ndarray, ...] = ()
    facts: dict[str, Any] | None = None

    def at(self, row: int, size: Size) -> Int[np.ndarray, "height width"]:
        """The kind at each pixel of a picture of some size."""
        return stretched(self.maps[row], size)

    def save(self, folder: Path) -> list[Path]:
        """Write ``segments/`` (a PNG of kinds for each picture), ``segments.json`` (the share of each kind) and ``segments.png``."""
        folder.mkdir(parents=True, exist_ok=True)
        for row, target in enumerate(mask_files(self.names, folder / "segments")):
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(self.at(row, self.sizes[row]).astype(np.uint8 if self.kinds < 256 else np.uint16)).save(target)
        shares = [(np.bincount(one.ravel(), minlength=self.kinds + 1) / one.size).round(5).tolist() for one in self.maps]
        plain = {
            "info": self.facts or {},
            "pictures": [{"file": name, "shares": share} for name, share in zip(self.names, shares, strict=True)],
        }
        (folder / "segments.json").write_text(json.dumps(plain) + "\n")
        (folder / "segments.png").write_bytes(self._repr_png_())
        return [folder / name for name in ("segments.png", "segments.json", "segments")]

    def _repr_png_(self) -> bytes:
        """The first pictures with their kinds in colours."""
        colours = many_colours(self.kinds)
        return page([painted(picture, one, colours) for picture, one in zip(self.pictures, self.maps, strict=False)])


@dataclass
class _Sample:
    """At most ``FITTED`` rows of a stream, each as likely as any, in the order in which they came."""

    seed: int
    parts: list[tuple[Tensor, ...]] = field(default_factory=list)
    lots: Tensor = field(default_factory=lambda: torch.zeros(0))

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.seed)

    def add(self, *columns: Tensor) -> None:
        """Rows that go together, such as vectors and their labels."""
        self.parts.append(tuple(column.cpu() for column in columns))
        self.lots = torch.cat([self.lots, torch.rand(len(columns[0]), generator=self.generator)])
        if len(self.lots) > 2 * FITTED:
            self._thin()

    def rows(self) -> tuple[Tensor, ...]:
        """The rows that were drawn, by column; none where none was added."""
        self._thin()
        return self.parts[0] if self.parts else ()

    def _thin(self) -> None:
        kept = self.lots.argsort()[:FITTED].sort().values
        self.parts = [tuple(torch.cat(column)[kept] for column in zip(*self.parts, strict=True))] if self.parts else []
        self.lots = self.lots[kept]


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
    found = _all_painted(cut, told, kinds, facts)
    for wanted, again in ((learn, _learnt), (refine, _edged)):
        found = replace(found, maps=tuple(again(batches, found.maps, kinds))) if wanted else found
    return found


Told = Callable[[Float[Tensor, "piece dim"]], Int[Tensor, " piece"]]
"""From vectors of pieces to their kinds, from 1."""


def _nearest_kind(cut: _Cut, kinds: int, seed: int, say: Say) -> Told:
    """The nearest of the centroids of a sample of all pieces."""
    sample, pictures, unit = _Sample(seed), 0, cut.method != COLOURS_ALONE
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


def _all_painted(cut: _Cut, told: Told, kinds: int, facts: dict[str, Any]) -> Segmented:
    """Every picture with its pieces' kinds."""
    names, sizes, read = list[str](), list[Size](), list[Size]()
    maps, pictures = list[np.ndarray](), list[np.ndarray]()
    for looked, pieces in cut:
        names, sizes, read = [*names, *looked.names], [*sizes, *looked.sizes], [*read, *looked.read]
        maps += [np.concatenate([[0], told(one.vectors).cpu().numpy()])[one.numbers] for one in pieces]
        pictures += looked.small(SHOWN - len(pictures))
    return Segmented(tuple(names), tuple(sizes), tuple(read), tuple(maps), kinds, tuple(pictures), facts)


def _places(looked: Looked) -> Float[Tensor, "place dim"]:
    return normalize(looked.features.flatten(2), dim=1).transpose(1, 2).flatten(0, 1).cpu()


def _with_maps(batches: Iterator[Looked], maps: Sequence[np.ndarray]) -> Iterator[tuple[Looked, Sequence[np.ndarray]]]:
    at = 0
    for looked in batches:
        yield looked, maps[at : at + len(looked)]
        at += len(looked)


def _learnt(batches: Callable[[], Iterator[Looked]], maps: Sequence[np.ndarray], kinds: int) -> list[np.ndarray]:
    """What a linear layer over places makes of the maps: a softmax regression with ``1e-4 |W|²``, to its optimum."""
    sample = _Sample(0)
    for looked, some in _with_maps(batches(), maps):
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
    for looked, some in _with_maps(batches(), maps):
        told = (_places(looked) @ fitted[:, :-1].T + fitted[:, -1]).argmax(1)
        found += [part.reshape(one.shape).numpy() for part, one in zip(told.split([one.size for one in some]), some, strict=True)]
    return found


def _edged(batches: Callable[[], Iterator[Looked]], maps: Sequence[np.ndarray], kinds: int, sure: float = 0.7) -> list[np.ndarray]:
    """Maps over finer cells, with edges where colours have theirs."""
    found, field = list[np.ndarray](), Field()
    for looked, some in _with_maps(batches(), maps):
        for picture, one in zip(looked.pixels.cpu(), some, strict=True):
            size = cells_of(picture.shape[1:])
            chance = interpolate(one_hot(torch.from_numpy(one), kinds + 1).permute(2, 0, 1)[None].float(), size, mode="bilinear").flatten(2)
            unary = -(sure * chance + (1 - sure) / (kinds + 1)).log()
            kernel = field.kernel(adaptive_avg_pool2d(picture[None], size))
            found.append(mean_field(unary, kernel, field.rounds)[0].argmax(0).reshape(size).numpy())
    return found


def _iic_head(batches: Callable[[], Iterator[Looked]], kinds: int, seed: int, say: Say) -> Told:
    """A linear layer over places whose kinds are the same in a flipped picture, and tell as much as they can."""
    sample = _Sample(seed)
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
