"""Kinds of things in a data set's pictures, without labels: segments of each picture, and the clusters that they fall into.

A segmenter cuts each picture into pieces and gives a vector for each piece. The vectors of all pictures are clustered (spherical
k-means), and each piece is painted with its cluster's number, from 1; 0 is ground.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from selfsight.discover.localise import localise
from selfsight.discover.looked import Look, Looked, Size, looks
from selfsight.discover.pages import SHOWN, many_colours, mask_files, page, painted
from selfsight.discover.refine import Field, mean_field
from selfsight.objectives.agree import mutual_information
from selfsight.objectives.assign import kmeans

__all__ = ["COLOURS_ALONE", "SEGMENTERS", "Pieces", "Segmented", "segment_pictures"]

FITTED = 50_000
"""Vectors that clusters are fitted on at most, drawn by the seed."""
COLOURS_ALONE = "colour"
"""The segmenter that asks no representation."""
GROUNDLESS = ("colour", "iic", "patch")
"""Those for which ground is a kind like others; they find one kind more."""


@dataclass(frozen=True)
class Pieces:
    """A picture in pieces.

    Attributes:
        numbers: of the piece at each place, from 1; 0 is ground.
        vectors: one row a piece.
    """

    numbers: Int[np.ndarray, "rows columns"]
    vectors: Float[Tensor, "piece dim"]


Segmenter = Callable[[Looked], list[Pieces]]


def _means(looked: Looked, row: int, numbers: Int[np.ndarray, "rows columns"]) -> Float[Tensor, "piece dim"]:
    """The mean feature of each piece."""
    inside = one_hot(torch.from_numpy(numbers).flatten().long(), int(numbers.max()) + 1)[:, 1:].to(looked.features)
    return (looked.features[row].flatten(1) @ inside).T / inside.sum(0)[:, None].clamp(min=1)


def _vectors(looked: Looked, row: int, numbers: Int[np.ndarray, "rows columns"], *, crops: bool) -> Float[Tensor, "piece dim"]:
    """What the network says of the box around each piece and one place more, or the mean feature of the piece."""
    if not crops or not numbers.any():
        return _means(looked, row, numbers)
    size, (rows, columns) = looked.phi.size, numbers.shape
    height, width = looked.pixels.shape[2:]
    cut = []
    for piece in range(1, int(numbers.max()) + 1):
        down, across = np.nonzero(numbers == piece)
        top, bottom = (max(down.min() - 1, 0) * height // rows, min(down.max() + 2, rows) * height // rows)
        left, right = (max(across.min() - 1, 0) * width // columns, min(across.max() + 2, columns) * width // columns)
        crop = looked.pixels[row : row + 1, :, top:bottom, left:right]
        cut.append(interpolate(crop, (size, size), mode="bilinear", antialias=True))
    return looked.phi.pooled(torch.cat(cut).clamp(0, 1)).float()


def spectral(looked: Looked, *, segments: int = 15, adaptive: bool = False, crops: bool = True, seed: int = 0) -> list[Pieces]:
    """k-means over places in the smoothest eigenvectors; the piece with most of the border is ground (Melas-Kyriazi et al. 2022).

    Args:
        looked: the pictures, with some eigenvectors (``Look.vectors``).
        segments: pieces of a picture with its ground.
        adaptive: as many as the largest gap of the eigenvalues speaks for, and 2 at least.
        crops: a piece is told by what the network says of the box around it, as published; if not, by its places' mean feature.
        seed: of k-means.
    """
    found, (rows, columns) = looked.spectrum, looked.shape
    gaps = found.clusters().tolist()
    edge = np.ones((rows, columns), dtype=bool)
    edge[1:-1, 1:-1] = False
    pieces = []
    for row, vectors in enumerate(found.vectors[:, 1:].cpu()):
        count = min(max(gaps[row], 2) if adaptive else segments, rows * columns)
        labels = kmeans(normalize(vectors).T, count, seed=seed).labels.reshape(rows, columns).numpy()
        ground = int(np.bincount(labels[edge], minlength=count).argmax())
        numbers = np.unique(np.where(labels == ground, -1, labels), return_inverse=True)[1].reshape(rows, columns)
        pieces.append(Pieces(numbers, _vectors(looked, row, numbers, crops=crops)))
    return pieces


def object_alone(looked: Looked, *, localiser: str = "cut", crops: bool = True, **options: Any) -> list[Pieces]:
    """The object that a localiser finds is the one piece, all else is ground."""
    pieces = []
    for row, regions in enumerate(localise(looked, localiser, least=0, **options)):
        numbers = regions[0].mask.astype(np.int64) if regions else np.zeros(looked.shape, dtype=np.int64)
        pieces.append(Pieces(numbers, _vectors(looked, row, numbers, crops=crops)))
    return pieces


def patch(looked: Looked) -> list[Pieces]:
    """Every place is a piece, and nothing is ground: what clusters say without any picture's own pieces."""
    return [Pieces(_each(looked.shape), rows.flatten(1).T) for rows in looked.features]


def colour(looked: Looked) -> list[Pieces]:
    """Every place is a piece, told by its mean colour: what needs no representation."""
    cells = adaptive_avg_pool2d(looked.pixels, looked.shape)
    return [Pieces(_each(looked.shape), rows.flatten(1).T) for rows in cells]


def _each(shape: Size) -> Int[np.ndarray, "rows columns"]:
    return 1 + np.arange(shape[0] * shape[1]).reshape(shape)


SEGMENTERS: dict[str, Segmenter] = {"colour": colour, "object": object_alone, "patch": patch, "spectral": spectral}


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
        rows, columns = self.maps[row].shape
        down, across = np.arange(size[0]) * rows // size[0], np.arange(size[1]) * columns // size[1]
        return self.maps[row][down[:, None], across]

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
    seed: int = 0,
    say: Say = quiet,
    **options: Any,
) -> Segmented:
    """Kinds of things in a data set's pictures.

    Args:
        phi: the representation.
        source: the data set.
        method: a name of ``SEGMENTERS``, or ``iic``: a linear layer over places that tells a flipped picture's kinds alike and fills
            all kinds (Ji et al. 2018, arXiv:1807.06653).
        kinds: how many, without ground.
        look: at which scale, which features and how many eigenvectors; 15 unless it says.
        refine, learn: move edges to those of colours; a linear layer over places learns the kinds and paints again (self-training).
        rows, seed: which pictures, all by default; of all chance.
        say, options: called with how far it is; of the segmenter.

    Raises:
        UsageError: there is no such segmenter, or there are fewer pieces than kinds.
    """
    look = look or Look(vectors=15)
    kinds += method in GROUNDLESS
    batches = list(looks(phi, source, look, rows=rows))
    given = _in_pieces(batches, method, **options)
    say(f"{method}: {sum(len(pieces) for pieces in given):,} pictures in pieces")
    painted = _told(batches, given, kinds, seed, say) if method == "iic" else _clustered(given, kinds, seed, unit=method != COLOURS_ALONE)
    maps = [_painted(one, kind) for pieces, some in zip(given, painted, strict=True) for one, kind in zip(pieces, some, strict=True)]
    maps = _learnt(batches, maps, kinds) if learn else maps
    maps = _edged(batches, maps, kinds) if refine else maps
    return _gathered(batches, maps, kinds, {"method": method, "kinds": kinds, "representation": phi.name, "data": source.spec, **options})


def _in_pieces(batches: Sequence[Looked], method: str, **options: Any) -> list[list[Pieces]]:
    finder = partial(patch if method == "iic" else SEGMENTERS[look_up("segmenter", method, (*SEGMENTERS, "iic"))], **options)
    return [finder(looked) for looked in batches]


def _told(batches: Sequence[Looked], given: Sequence[Sequence[Pieces]], kinds: int, seed: int, say: Say) -> list[list[Tensor]]:
    head = _iic_head(batches, kinds, seed, say)
    return [[head(one.vectors).argmax(1) + 1 for one in pieces] for pieces in given]


def _clustered(given: Sequence[Sequence[Pieces]], kinds: int, seed: int, *, unit: bool) -> list[list[Tensor]]:
    """The cluster of every piece, from 1."""
    vectors = torch.cat([one.vectors for pieces in given for one in pieces]).float()
    if len(vectors) < kinds:
        raise UsageError(f"The pictures have {len(vectors)} pieces, too few for {kinds} kinds.", "Ask for fewer kinds.")
    vectors = normalize(vectors) if unit else vectors
    drawn = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(seed))[:FITTED]
    centres = kmeans(vectors[drawn.to(vectors.device)], kinds, seed=seed, spherical=unit, restarts=3).centroids
    labels = torch.cat([torch.cdist(some, centres).argmin(1) for some in vectors.split(16_384)]) + 1
    found = iter(labels.split([len(one.vectors) for pieces in given for one in pieces]))
    return [[next(found) for _ in pieces] for pieces in given]


def _painted(piece: Pieces, kinds: Int[Tensor, " piece"]) -> Int[np.ndarray, "rows columns"]:
    return np.concatenate([[0], kinds.cpu().numpy()])[piece.numbers]


def _places(batches: Sequence[Looked]) -> Float[Tensor, "place dim"]:
    return torch.cat([normalize(looked.features.flatten(2), dim=1).transpose(1, 2).flatten(0, 1) for looked in batches])


def _learnt(batches: Sequence[Looked], maps: Sequence[np.ndarray], kinds: int) -> list[np.ndarray]:
    """What a linear layer over places makes of the maps: a softmax regression with ``1e-4 |W|²``, to its optimum."""
    rows, labels = _places(batches).double(), torch.from_numpy(np.concatenate([one.ravel() for one in maps]))
    drawn = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:FITTED]
    weight = torch.zeros(kinds + 1, rows.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    some, known = rows[drawn], labels[drawn]
    optimiser = torch.optim.LBFGS([weight], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> float:
        with torch.enable_grad():
            optimiser.zero_grad()
            value = cross_entropy(some @ weight[:, :-1].T + weight[:, -1], known) + 1e-4 * weight[:, :-1].square().sum()
            value.backward()
        return value.item()

    optimiser.step(loss)
    told = (rows @ weight.detach()[:, :-1].T + weight.detach()[:, -1]).argmax(1)
    return [part.reshape(one.shape).numpy() for part, one in zip(told.split([one.size for one in maps]), maps, strict=True)]


def _edged(batches: Sequence[Looked], maps: Sequence[np.ndarray], kinds: int, sure: float = 0.7) -> list[np.ndarray]:
    """Maps over finer cells, with edges where colours have theirs."""
    found, at = list[np.ndarray](), 0
    for looked in batches:
        for picture in looked.pixels.cpu():
            one = torch.from_numpy(maps[at])
            scale = 48 / max(picture.shape[1:])
            height, width = (max(round(side * min(scale, 1)), 1) for side in picture.shape[1:])
            size = (height, width)
            chance = interpolate(one_hot(one, kinds + 1).permute(2, 0, 1)[None].float(), size, mode="bilinear").flatten(2)
            unary = -(sure * chance + (1 - sure) / (kinds + 1)).log()
            field = Field()
            kernel = field.kernel(adaptive_avg_pool2d(picture[None], size))
            found.append(mean_field(unary, kernel, field.rounds)[0].argmax(0).reshape(size).numpy())
            at += 1
    return found


def _iic_head(batches: Sequence[Looked], kinds: int, seed: int, say: Say) -> nn.Module:
    """A linear layer over places whose kinds are the same in a flipped picture, and tell as much as they can."""
    left, right = list[Tensor](), list[Tensor]()
    for looked in batches:
        turned = Looked(looked.phi, looked.pixels.flip(3), looked.look)
        left.append(looked.features.flatten(2).transpose(1, 2).flatten(0, 1))
        right.append(turned.features.flip(3).flatten(2).transpose(1, 2).flatten(0, 1))
    one, other = torch.cat(left), torch.cat(right)
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
    with torch.no_grad():
        best.weight /= scale
    return best


def _gathered(batches: Sequence[Looked], maps: Sequence[np.ndarray], kinds: int, facts: dict[str, Any]) -> Segmented:
    return Segmented(
        tuple(name for looked in batches for name in looked.names),
        tuple(size for looked in batches for size in looked.sizes),
        tuple(size for looked in batches for size in looked.read),
        tuple(maps),
        kinds,
        tuple(picture for looked in batches[:SHOWN] for picture in looked.small(SHOWN))[:SHOWN],
        facts,
    )
