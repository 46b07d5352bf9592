"""Pictures as discoveries look at them: whole, at one scale, with what the representation says of every place."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from selfsight.bank.extract import fingerprint
from selfsight.core.cache import Arrays, DiskCache, cache_key
from selfsight.core.errors import UsageError
from selfsight.core.representation import Representation
from selfsight.data.source import Rows, Source
from selfsight.data.views.image.geometry import resize_whole
from selfsight.discover.dense.affinity import DenseFeatures, Facet, affinity_graph, colour_affinity, cosines, location_features
from selfsight.discover.dense.correspond import log_binned, token_stride
from selfsight.discover.dense.spectral import Spectrum, spectrum

__all__ = ["FeatureBatch", "FeatureSpec", "Size", "iter_feature_batches"]

Size = tuple[int, int]
SPECTRUM = ("values", "vectors", "degrees", "residual")
_Read = tuple[int, Tensor, Size, Size]
"""A row, its pixels, the size of its file and that of what was read."""


@dataclass(frozen=True)
class FeatureSpec:
    """How pictures are looked at.

    Attributes:
        size: the shorter side in pixels; None: that of the network. The other keeps the proportions; both are rounded to strides.
        layer, facet, block: which features; see ``affinity.location_features``.
        centred: whether the mean over a picture's places is taken off; None: where there is no attention, for what comes out of a
            rectifier points one way everywhere.
        colour: the weight of likeness in colour and place beside that of features.
        vectors: eigenvectors that are found after the constant one.
        stride: pixels from one token of a vision transformer to the next (``correspond.token_stride``); None: its own.
        rings: of what lies around a place, joined to its vector (``correspond.log_binned``).
    """

    size: int | None = None
    layer: str | None = None
    facet: Facet = "auto"
    block: int = -1
    centred: bool | None = None
    colour: float = 0.0
    vectors: int = 1
    stride: int | None = None
    rings: int = 0


@dataclass(frozen=True)
class FeatureBatch:
    """Some pictures of one shape; all that is asked about them is worked out once.

    Attributes:
        phi: the representation.
        pixels: (batch, 3, height, width) in [0, 1], sides multiples of the stride.
        feature_spec: how.
        rows: which of the data set they are.
        sizes: (height, width) of the picture files in pixels.
        read: (height, width) as the data set gives them, in whose pixels it knows the truth.
        names: what they are called.
        kept: where their eigenvectors are kept, if anywhere.
    """

    phi: Representation
    pixels: Float[Tensor, "batch 3 height width"]
    spec: FeatureSpec = field(default_factory=FeatureSpec)
    rows: tuple[int, ...] = ()
    sizes: tuple[Size, ...] = ()
    read: tuple[Size, ...] = ()
    names: tuple[str, ...] = ()
    cache: DiskCache | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    @cached_property
    def features(self) -> DenseFeatures:
        """One vector a place."""
        look = self.spec
        with self._at_stride():
            found = location_features(self.phi, self.pixels, layer=look.layer, facet=look.facet, block=look.block).float()
        found = log_binned(found, look.rings) if look.rings else found
        centred = not self.phi.has_attention if look.centred is None else look.centred
        return found - found.mean((2, 3), keepdim=True) if centred else found

    def _at_stride(self) -> AbstractContextManager[None]:
        return token_stride(self.phi, self.spec.stride) if self.spec.stride else nullcontext()

    def small(self, most: int) -> list[UInt8[np.ndarray, "height width 3"]]:
        """The first pictures, to be shown."""
        return list((self.pixels[:most] * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy())

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of places."""
        kept = self.cache.read("spectrum", self.rows) if self.cache else None
        rows, columns = self.features.shape[2:] if kept is None else kept["shape"].tolist()
        return rows, columns

    @cached_property
    def cosines(self) -> Float[Tensor, "batch place place"]:
        """How alike the features of places are."""
        return cosines(self.features)

    @cached_property
    def spectrum(self) -> Spectrum:
        """The smoothest eigenvectors over the places (Melas-Kyriazi et al. 2022, arXiv:2205.07839)."""
        if self.cache is None:
            return self._compute_spectrum()
        kept = self.cache.get_or_compute(
            "spectrum", self.rows, self._arrays, fits=lambda found: found["values"].shape[1] > self._vectors(found["shape"])
        )
        wanted = self._vectors(kept["shape"]) + 1
        values, vectors, degrees, residual = (torch.from_numpy(kept[name]).to(self.pixels.device) for name in SPECTRUM)
        return Spectrum(values[:, :wanted], vectors[:, :wanted], degrees, residual)

    def _vectors(self, shape: Sequence[int] | np.ndarray) -> int:
        return min(self.spec.vectors, int(np.prod(shape)) - 1)

    def _compute_spectrum(self) -> Spectrum:
        weights = self.cosines.clamp(min=0)
        if self.spec.colour:
            weights = weights + self.spec.colour * colour_affinity(self.pixels.to(weights.device), *self.features.shape[2:])
        return spectrum(affinity_graph(weights), self._vectors(self.features.shape[2:]))

    def _arrays(self) -> Arrays:
        found = self._compute_spectrum()
        return {name: getattr(found, name).cpu().numpy() for name in SPECTRUM} | {"shape": np.array(self.features.shape[2:])}

    @cached_property
    def attention(self) -> Float[Tensor, "batch head rows columns"]:
        """How much the class token looks at each place, by head.

        Raises:
            UsageError: the network has no attention, or no class token.
        """
        prefix = getattr(self.phi.backbone, "prefix", 0)
        if self.phi.has_attention and not prefix:
            raise UsageError(f"{self.phi.name} has no class token that looks at places.", "Use cut, fiedler, lost or mask_cut.")
        with self._at_stride():
            feature_batch = self.phi.attention(self.pixels, self.spec.block)[:, :, 0, prefix:]
            rows, columns = (side // self.phi.backbone.stride for side in self.pixels.shape[2:])
        return feature_batch.float().unflatten(2, (rows, columns))


def iter_feature_batches(
    phi: Representation, source: Source, spec: FeatureSpec, *, rows: Rows | None = None, cache: Path | None = None, batch: int = 16
) -> Iterator[FeatureBatch]:
    """The pictures of a source in batches of one shape, in their order.

    Args:
        phi: the representation.
        source: the data set.
        feature_spec: how they are looked at.
        rows: which of them; all by default.
        kept: a folder in which what is worked out is kept, for any number of representations and data sets.
        batch: how many at once at most.
    """
    wanted = np.arange(len(source)) if rows is None else rows
    names, waiting = source.names, list[_Read]()
    store = DiskCache(cache / _cache_key(phi, source, spec)) if cache else None
    for row in wanted:
        given = source.read(np.array([row]))
        height, width = given.images.shape[2:] if given.extent is None else given.extent[0].tolist()
        pixels = torch.from_numpy(np.ascontiguousarray(given.images[0, :, :height, :width]))
        one = resize_whole(pixels, spec.size or phi.size, phi.backbone.stride)
        if waiting and (len(waiting) == batch or waiting[0][1].shape != one.shape):
            yield _make_batch(phi, spec, waiting, names, store)
            waiting = []
        own = (height, width) if given.own is None else (int(given.own[0, 0]), int(given.own[0, 1]))
        waiting.append((int(row), one, own, (height, width)))
    if waiting:
        yield _make_batch(phi, spec, waiting, names, store)


def _cache_key(phi: Representation, source: Source, look: FeatureSpec) -> str:
    """Of everything that eigenvectors follow from but their number."""
    return cache_key(fingerprint(phi), source.fingerprint, replace(look, vectors=0), phi.backbone.stride)


def _make_batch(phi: Representation, look: FeatureSpec, some: list[_Read], names: Sequence[str], kept: DiskCache | None) -> FeatureBatch:
    rows, pixels, sizes, read = zip(*some, strict=True)
    return FeatureBatch(phi, torch.stack(pixels).to(phi.device), look, rows, sizes, read, tuple(str(names[row]) for row in rows), kept)
