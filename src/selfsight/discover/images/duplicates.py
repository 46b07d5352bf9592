"""Near-duplicates, and selection of images for labelling."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from selfsight.bank.nearest import nearest
from selfsight.core.json_text import json_text
from selfsight.core.names import one_per_line
from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.core.representation import Representation
from selfsight.core.spreadsheets import write_csv
from selfsight.data.source import Source
from selfsight.discover.images.clusters import NEIGHBOURS, image_vectors, thumbnails
from selfsight.discover.images.near_duplicates import near_duplicates
from selfsight.discover.images.sheets import captioned, cluster_sheet
from selfsight.render.panels import facts, inlined, panel, table
from selfsight.render.tiles import SHOWN, page

__all__ = ["Duplicates", "Selection", "find_duplicates"]

DUPLICATES_SHOWN = 8
"""Images of a group shown next to the one that is kept."""
SAME = 40
"""Images shown per reason of selection."""
CELL, ACROSS = 132, 10
"""Cell size of the sheet of a selection in pixels, and cells per row."""
Thumbnails = Mapping[int, UInt8[np.ndarray, "_ _ 3"]]


@dataclass(frozen=True)
class Duplicates:
    """Groups of near-duplicates.

    Attributes:
        names: names of all images.
        groups: rows of near-duplicates; the first one is kept.
        thumbnails: thumbnails by row.
        facts: the settings.
    """

    names: tuple[str, ...]
    groups: tuple[tuple[int, ...], ...]
    thumbnails: Thumbnails = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def unique(self) -> list[int]:
        """Rows of the images to keep: the first of each group, and all images without duplicates."""
        removed = {row for rows in self.groups for row in rows[1:]}
        return [row for row in range(len(self.names)) if row not in removed]

    def counts(self) -> dict[str, Any]:
        """Number of groups, and of images to keep."""
        return {"groups": len(self.groups), "kept": len(self.unique())}

    def words(self) -> str:
        """The counts as one line."""
        return f"groups of near-duplicates: {len(self.groups):,}; images to keep: {len(self.unique()):,} of {len(self.names):,}"

    def to_json(self) -> dict[str, Any]:
        """Everything except thumbnails."""
        return {"info": dict(self.facts), **self.counts(), "duplicates": [[self.names[row] for row in rows] for rows in self.groups]}

    def save(self, folder: Path) -> list[Path]:
        """Write ``duplicates.csv`` (a line per image of a group), ``unique.txt`` (paths to keep), ``duplicates.json`` and a sheet."""
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "duplicates.csv").open("w", newline="", encoding="utf-8") as file:
            groups = enumerate(self.groups)
            rows = ([number, self.names[row], "no" if place else "yes"] for number, some in groups for place, row in enumerate(some))
            write_csv(file, ["group", "file", "kept"], rows)
        (folder / "unique.txt").write_text(one_per_line(self.names[row] for row in self.unique()), encoding="utf-8")
        (folder / "duplicates.json").write_text(json_text(self.to_json()) + "\n")
        (folder / "duplicates.png").write_bytes(self._repr_png_())
        return [folder / name for name in ("duplicates.png", "duplicates.json", "duplicates.csv", "unique.txt")]

    def _repr_png_(self) -> bytes:
        """A row per group: the image that is kept, and the others."""
        rows: list[Any] = []
        for number, group in enumerate(self.groups[:SHOWN]):
            hidden = len(group) - 1 - DUPLICATES_SHOWN
            caption = [f"{number}", f"{len(group):,} images", *([f"{hidden:,} not shown"] if hidden > 0 else [])]
            thumbnails = [
                [self.thumbnails[row] for row in members if row in self.thumbnails]
                for members in (group[:1], group[1 : DUPLICATES_SHOWN + 1])
            ]
            rows.append((caption, *thumbnails))
        if not rows or len(self.groups) > SHOWN:
            rows.append(([f"{len(self.groups) - SHOWN:,} more" if rows else "none", *(["in duplicates.csv"] if rows else [])], [], []))
        return cluster_sheet(
            rows, (1, min(max((len(group) - 1 for group in self.groups), default=1), DUPLICATES_SHOWN)), ("kept", "removed")
        )

    def _repr_html_(self) -> str:
        rows = [(number, self.names[group[0]], len(group) - 1) for number, group in enumerate(self.groups)]
        groups = table(("group", "kept", "removed"), rows)
        return panel(self.words(), facts(self.facts), groups, inlined(self._repr_png_(), "groups of near-duplicates"))


@dataclass(frozen=True)
class Selection:
    """Images selected for labelling.

    Attributes:
        names: names of all images.
        chosen: rows and reasons: ``central``, ``diverse`` or ``doubtful``.
        clusters: cluster of every image.
        thumbnails: thumbnails by row.
        facts: the settings.
    """

    names: tuple[str, ...]
    chosen: tuple[tuple[int, str], ...]
    clusters: Int[np.ndarray, " image"]
    thumbnails: Thumbnails = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def counts(self) -> dict[str, Any]:
        """Number of selected images, in total and by reason."""
        return {"chosen": len(self.chosen), "why": dict(Counter(why for _, why in self.chosen))}

    def words(self) -> str:
        """The counts as one line."""
        reasons = ", ".join(f"{count:,} {why}" for why, count in Counter(why for _, why in self.chosen).items())
        return f"images to label: {len(self.chosen):,} of {len(self.names):,} ({reasons})"

    def to_json(self) -> dict[str, Any]:
        """Everything except thumbnails."""
        selection = [{"file": self.names[row], "why": why, "cluster": int(self.clusters[row])} for row, why in self.chosen]
        return {"info": dict(self.facts), "selection": selection}

    def save(self, folder: Path) -> list[Path]:
        """Write ``selection.csv`` (a line per image), ``selection.txt`` (paths), ``selection.json`` and a sheet."""
        folder.mkdir(parents=True, exist_ok=True)
        result = self.to_json()
        with (folder / "selection.csv").open("w", newline="", encoding="utf-8") as file:
            write_csv(file, ("file", "why", "cluster"), (one.values() for one in result["selection"]))
        (folder / "selection.txt").write_text(one_per_line(self.names[row] for row, _ in self.chosen), encoding="utf-8")
        (folder / "selection.json").write_text(json_text(result) + "\n")
        (folder / "selection.png").write_bytes(self._repr_png_())
        return [folder / name for name in ("selection.png", "selection.json", "selection.csv", "selection.txt")]

    def _repr_png_(self) -> bytes:
        """Thumbnails with reasons and clusters, grouped by reason."""
        tiles = []
        for reason in dict.fromkeys(why for _, why in self.chosen):
            rows = [row for row, why in self.chosen if why == reason and row in self.thumbnails]
            tiles += [captioned(self.thumbnails[row], (reason, f"cluster {self.clusters[row]}")) for row in rows[:SAME]]
        return page(tiles, ACROSS, CELL)

    def _repr_html_(self) -> str:
        rows = [(self.names[row], why, int(self.clusters[row])) for row, why in self.chosen]
        selection = table(("image", "why", "cluster"), rows)
        return panel(self.words(), facts(self.facts), inlined(self._repr_png_(), "images to label, with reasons"), selection)


def find_duplicates(
    phi: Representation,
    source: Source,
    method: str = "features",
    *,
    banks: Path | None = None,
    duplicate_threshold: float = 0.99,
    progress: ProgressCallback = no_progress,
) -> Duplicates:
    """Groups of near-duplicates: ten nearest neighbours whose pixels correlate, transitively.

    Args:
        phi: the representation.
        source: the data set.
        method: nearest neighbours by ``features`` or by ``pixels``.
        banks: folder of cached features; None: no cache.
        duplicate_threshold: pixel correlation from which neighbours are near-duplicates.
        progress: called with a line per step.
    """
    progress(f"duplicates: {len(source):,} images")
    rows = image_vectors(phi, source, method, banks)
    _, neighbours = nearest(rows, rows, NEIGHBOURS, exclude_self=True)
    groups = near_duplicates(source, neighbours, duplicate_threshold)
    shown_rows = np.array([row for group in groups[:SHOWN] for row in group[: DUPLICATES_SHOWN + 1]], dtype=np.int64)
    facts = {"method": method, "alike": duplicate_threshold, "representation": phi.name, "data": source.spec}
    return Duplicates(tuple(str(name) for name in source.names), groups, thumbnails(source, shown_rows), facts)
