"""A listing with its pack: the source made of folders, archives and downloads."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from selfsight.core.cache import digest
from selfsight.data.listing import Annotations, Listing
from selfsight.data.pack import BUDGET, Progress, decoding_version, open_pack
from selfsight.data.source import Batch, LazySequence, Rows, Truth

__all__ = ["PackedSource"]


class PackedSource:
    """Images from the packed cache, with ground truth in the pixels of the packed images.

    Args:
        listing: the images.
        side: longest side in pixels of the packed images.
        cache: folder of packs; see ``pack.cache_folder``.
        budget: maximum bytes of raw pixels on disk.
        progress: called with (done, all) while a pack is built.

    Raises:
        DataError: more than a tenth of the images cannot be read.
        EnvironmentFault: the cache cannot be written.
    """

    def __init__(
        self, listing: Listing, side: int, *, cache: Path | None = None, budget: int = BUDGET, progress: Progress | None = None
    ) -> None:
        self.spec = listing.spec
        self.fingerprint = digest((listing.fingerprint, f"{side} {decoding_version(listing)}"))
        self._names = list(listing.names)
        self._annotations = listing.annotations
        self.pack = open_pack(listing, side, cache=cache, budget=budget, progress=progress)

    def __len__(self) -> int:
        return len(self._names)

    @property
    def shape(self) -> tuple[int, int]:
        return self.pack.shape

    @property
    def names(self) -> Sequence[str]:
        return self._names

    @property
    def bad(self) -> Sequence[tuple[str, str]]:
        return self.pack.bad

    def read(self, rows: Rows) -> Batch:
        """Images of these rows; an unreadable row is replaced by the next readable one."""
        rows = np.asarray(rows, dtype=np.int64)
        extent = None if self.pack.uniform else self.pack.table[rows, 2:4]
        return Batch({"image": np.ascontiguousarray(self.pack.read(rows))}, rows, extent, own=self.pack.table[rows, 4:6])

    def truth(self, rows: Rows) -> Truth:
        """Ground truth of the images that ``read`` returns for these rows, in their pixels."""
        table = self.pack.table[rows]
        return _fitted(self._annotations.take(table[:, 6]), table, self.shape)


def _fitted(annotations: Annotations, table: np.ndarray, shape: tuple[int, int]) -> Truth:
    """Convert ground truth from original pixels (or fractions) to the packed images; ``table`` has both sizes."""
    truth = annotations.truth
    own = table[:, [5, 4]].astype(np.float64)
    packed = table[:, [3, 2]].astype(np.float64)
    scale = packed if annotations.fractions else packed / own
    changes: dict[str, object] = {}
    if truth.boxes is not None:
        scaled = [
            np.concatenate([box[:, :4] * np.tile(factor, 2), box[:, 4:]], axis=1) for box, factor in zip(truth.boxes, scale, strict=True)
        ]
        changes["boxes"] = [box.astype(np.float32) for box in scaled]
    if truth.keypoints is not None:
        points = zip(truth.keypoints, scale, strict=True)
        changes["keypoints"] = [
            np.concatenate([point[:, :2] * factor, point[:, 2:]], axis=1).astype(np.float32) for point, factor in points
        ]
    for name in ("masks", "parts"):
        maps = getattr(truth, name)
        if maps is not None:
            changes[name] = LazySequence(_Placed(maps, table[:, 2:4], shape), range(len(table)))
    return replace(truth, **changes)  # pyright: ignore[reportArgumentType]


class _Placed:
    """Number maps resized to their packed image (nearest neighbour) and padded with zeros."""

    def __init__(self, maps: Sequence[np.ndarray], extent: np.ndarray, shape: tuple[int, int]) -> None:
        self.maps, self.extent, self.shape = maps, extent, shape

    def __call__(self, place: int) -> np.ndarray:
        source = self.maps[place]
        height, width = (int(side) for side in self.extent[place])
        down = np.minimum((np.arange(height) + 0.5) * source.shape[0] // height, source.shape[0] - 1).astype(np.int64)
        across = np.minimum((np.arange(width) + 0.5) * source.shape[1] // width, source.shape[1] - 1).astype(np.int64)
        out = np.zeros(self.shape, dtype=source.dtype)
        out[:height, :width] = source[down[:, None], across[None]]
        return out
