"""Dense features of the images of a data set, computed in batches of one shape at one scale."""

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
from selfsight.core.bounds import check_numbers
from selfsight.core.cache import Arrays, DiskCache, cache_key
from selfsight.core.errors import UsageError
from selfsight.core.finite_tensors import require_finite_tensor
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
"""A row, its pixels, the size of the image file, and the size of the image as read."""


@dataclass(frozen=True)
class FeatureSpec:
    """Settings of dense features.

    Attributes:
        size: shorter side in pixels; None: that of the network. The aspect ratio is kept; both sides are rounded to the stride.
        layer: see ``affinity.location_features``.
        facet: see ``affinity.location_features``.
        block: see ``affinity.location_features``.
        centred: subtract the mean over the locations of an image; None: if the network has no attention, because features after a rectifier
            share a direction.
        colour: weight of the affinity in colour and position relative to that of features.
        vectors: number of eigenvectors after the constant one.
        stride: pixels between tokens of a vision transformer (``correspond.token_stride``); None: its own.
        rings: rings of surroundings that are appended to each vector (``correspond.log_binned``).
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

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            UsageError: a number is outside of its range.
        """
        check_numbers(vars(self))


@dataclass(frozen=True)
class FeatureBatch:
    """Images of one shape; all derived quantities are computed once.

    Attributes:
        phi: the representation.
        pixels: (batch, 3, height, width) in [0, 1], sides multiples of the stride.
        spec: settings of the features.
        rows: rows in the data set.
        sizes: (height, width) of the image files in pixels.
        read: (height, width) of the images as read, in whose pixels annotations are given.
        names: names of the images.
        cache: where eigenvectors are cached; None: nowhere.
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
        """Dense features, one vector per location.

        Raises:
            DataError: those of some images are NaN or infinite.
        """
        spec = self.spec
        with self._at_stride():
            features = location_features(self.phi, self.pixels, layer=spec.layer, facet=spec.facet, block=spec.block).float()
        require_finite_tensor(features, "images of a batch", self.names or None, what="dense features")
        features = log_binned(features, spec.rings) if spec.rings else features
        centred = not self.phi.has_attention if spec.centred is None else spec.centred
        return features - features.mean((2, 3), keepdim=True) if centred else features

    def _at_stride(self) -> AbstractContextManager[None]:
        return token_stride(self.phi, self.spec.stride) if self.spec.stride else nullcontext()

    def small(self, most: int) -> list[UInt8[np.ndarray, "height width 3"]]:
        """Thumbnails of the first images."""
        return list((self.pixels[:most] * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy())

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of locations."""
        cached = self.cache.read("spectrum", self.rows) if self.cache else None
        rows, columns = self.features.shape[2:] if cached is None else cached["shape"].tolist()
        return rows, columns

    @cached_property
    def cosines(self) -> Float[Tensor, "batch place place"]:
        """Cosine similarities between the features of locations."""
        return cosines(self.features)

    @cached_property
    def spectrum(self) -> Spectrum:
        """Smoothest eigenvectors over locations (Melas-Kyriazi et al. 2022, arXiv:2205.07839)."""
        if self.cache is None:
            return self._compute_spectrum()
        cached = self.cache.get_or_compute(
            "spectrum", self.rows, self._arrays, fits=lambda arrays: arrays["values"].shape[1] > self._vectors(arrays["shape"])
        )
        count = self._vectors(cached["shape"]) + 1
        values, vectors, degrees, residual = (torch.from_numpy(cached[name]).to(self.pixels.device) for name in SPECTRUM)
        return Spectrum(values[:, :count], vectors[:, :count], degrees, residual)

    def _vectors(self, shape: Sequence[int] | np.ndarray) -> int:
        return min(self.spec.vectors, int(np.prod(shape)) - 1)

    def _compute_spectrum(self) -> Spectrum:
        weights = self.cosines.clamp(min=0)
        if self.spec.colour:
            weights = weights + self.spec.colour * colour_affinity(self.pixels.to(weights.device), *self.features.shape[2:])
        return spectrum(affinity_graph(weights), self._vectors(self.features.shape[2:]))

    def _arrays(self) -> Arrays:
        result = self._compute_spectrum()
        return {name: getattr(result, name).cpu().numpy() for name in SPECTRUM} | {"shape": np.array(self.features.shape[2:])}

    @cached_property
    def attention(self) -> Float[Tensor, "batch head rows columns"]:
        """Attention of the class token to each location, per head.

        Raises:
            UsageError: the network has no attention, or no class token.
            DataError: the weights of some images are NaN or infinite.
        """
        prefix = self.phi.token_layout.prefix
        if self.phi.has_attention and not prefix:
            raise UsageError(f"{self.phi.name} has no class token that attends to locations.", "Use cut, fiedler, lost or mask_cut.")
        with self._at_stride():
            weights = self.phi.attention(self.pixels, self.spec.block)[:, :, 0, prefix:]
            rows, columns = (side // self.phi.backbone.stride for side in self.pixels.shape[2:])
        require_finite_tensor(weights, "images of a batch", self.names or None, what="attention weights")
        return weights.float().unflatten(2, (rows, columns))


def iter_feature_batches(
    phi: Representation, source: Source, spec: FeatureSpec, *, rows: Rows | None = None, cache: Path | None = None, batch: int = 16
) -> Iterator[FeatureBatch]:
    """Iterate over the images of a data set, in batches of one shape and in order.

    Args:
        phi: the representation.
        source: the data set.
        spec: settings of the features.
        rows: rows to read; None: all.
        cache: folder of cached results, for any number of representations and data sets; None: no cache.
        batch: maximum batch size.
    """
    indices = np.arange(len(source)) if rows is None else rows
    names, pending = source.names, list[_Read]()
    store = DiskCache(cache / _cache_key(phi, source, spec)) if cache else None
    for row in indices:
        item = source.read(np.array([row]))
        height, width = item.images.shape[2:] if item.extent is None else item.extent[0].tolist()
        pixels = torch.from_numpy(np.ascontiguousarray(item.images[0, :, :height, :width]))
        image = resize_whole(pixels, spec.size or phi.size, phi.backbone.stride)
        if pending and (len(pending) == batch or pending[0][1].shape != image.shape):
            yield _make_batch(phi, spec, pending, names, store)
            pending = []
        file_size = (height, width) if item.own is None else (int(item.own[0, 0]), int(item.own[0, 1]))
        pending.append((int(row), image, file_size, (height, width)))
    if pending:
        yield _make_batch(phi, spec, pending, names, store)


def _cache_key(phi: Representation, source: Source, spec: FeatureSpec) -> str:
    """Key of everything that determines eigenvectors except their number."""
    return cache_key(fingerprint(phi), source.fingerprint, replace(spec, vectors=0), phi.backbone.stride)


def _make_batch(phi: Representation, spec: FeatureSpec, items: list[_Read], names: Sequence[str], store: DiskCache | None) -> FeatureBatch:
    rows, pixels, sizes, read = zip(*items, strict=True)
    return FeatureBatch(phi, torch.stack(pixels).to(phi.device), spec, rows, sizes, read, tuple(str(names[row]) for row in rows), store)
