"""One self-contained page about a run."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup
from torch.nn.functional import normalize

from selfsight.bank.nearest import nearest
from selfsight.bank.store import Bank
from selfsight.core.representation import Representation
from selfsight.core.views import Images, Views
from selfsight.data.source import Source
from selfsight.objectives.assign import kmeans
from selfsight.render.figures import PALETTE, curve, floor_bars, map_of, thumbnail
from selfsight.workflows.evaluate.tables import score_rows

__all__ = ["ViewExamples", "write_report"]

CURVES = (
    ("loss", "loss"),
    ("accuracy", "accuracy of the pretext task"),
    ("spread", "spread of the embedding (at most 1)"),
    ("effective_rank", "effective rank of the embedding"),
    ("clusters_used", "clusters in use"),
    ("gradient_norm", "norm of the gradient"),
    ("rate", "learning rate"),
)
NEIGHBOURS, QUERIES, CLUSTERS, MEMBERS, DOTS = 9, 10, 12, 10, 3000


@dataclass(frozen=True)
class ViewExamples:
    """Pictures, the views that the method makes of them, and the normalisation to take off for showing."""

    images: Images
    views: Views
    mean: Sequence[float]
    std: Sequence[float]


def write_report(run: Path, phi: Representation, source: Source, bank: Bank, shown: ViewExamples | None = None) -> Path:
    """Write ``report/index.html`` in the run's folder: no script, nothing from elsewhere.

    Args:
        run: the run's folder.
        phi: its representation.
        source: whose pictures are shown.
        bank: what the representation says of the source.
        shown: a gallery of views.
    """
    rows = np.array(bank.pooled(), dtype=np.float32)
    clustering = _cluster(rows)
    scores = _read(run / "measures" / "scores.json")
    environment = Environment(loader=PackageLoader("selfsight.report", "."), autoescape=select_autoescape(["html", "j2"]))
    page = environment.get_template("page.html.j2").render(
        title=run.name,
        facts=_facts(run, phi, source),
        status=_read(run / "STATUS.json"),
        curves=[Markup(svg) for svg in _curves(run)],
        rows=score_rows(scores) if scores else [],
        protocol=scores.get("protocol", {}),
        tested=scores,
        bars=Markup(floor_bars(_bars(scores))) if scores else "",
        gallery=_gallery(shown) if shown else [],
        neighbours=_neighbours(source, rows),
        clusters=_sheets(source, rows, clustering),
        map=Markup(_map(source, rows, clustering[0])),
        palette=PALETTE,
        count=len(rows),
        bad=list(source.bad[:10]),
        bad_count=len(source.bad),
    )
    folder = run / "report"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "index.html"
    file.write_text(page, encoding="utf-8")
    return file


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text()) if file.is_file() else {}


def _facts(run: Path, phi: Representation, source: Source) -> list[tuple[str, str]]:
    """What was learnt, from what, how, and where."""
    config, origin = _read(run / "config.json"), _read(run / "origin.json")
    timing = [json.loads(line) for line in (run / "timing.jsonl").read_text().splitlines()] if (run / "timing.jsonl").is_file() else []
    parameters = sum(parameter.numel() for parameter in phi.backbone.parameters())
    facts = [("network", f"{phi.spec}, {parameters / 1e6:.1f} million parameters, vectors of {phi.backbone.dim}")]
    if config:
        steps, batch, images = config["steps"], config["batch"], origin.get("images", 0)
        epochs = f" ({steps * batch / images:.1f} epochs)" if images else ""
        facts += [
            ("method", config["method"]),
            ("data", f"{config['data']} · {images:,} images"),
            ("pictures", f"{config['size']} x {config['size']} px"),
            (
                "training",
                f"{steps:,} steps of {batch} images{epochs}, {config['training']['optimiser']}, {config['precision']}, seed {config['seed']}",
            ),
        ]
    if timing:
        seconds = sum(line["seconds"] for line in timing)
        speed = np.median([line["images_per_second"] for line in timing])
        facts.append(("time", f"{seconds:,.0f} s at {speed:,.0f} images/s; peak memory {timing[-1]['memory_gib']:.1f} GiB"))
    if origin:
        facts.append(("machine", f"{origin.get('processor', '')} · torch {origin.get('torch', '')} · commit {origin.get('commit', '')}"))
    facts.append(("shown here", f"{source.spec} · {len(source):,} images"))
    return facts


def _curves(run: Path) -> list[str]:
    file = run / "metrics.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    drawn = []
    for name, title in CURVES:
        points = [(record["step"], record[name]) for record in records if np.isfinite(record.get(name, np.nan))]
        if len(points) > 1:
            chance = next((record["chance"] for record in records if "chance" in record), None)
            mark = (chance, "knows nothing") if name == "loss" and chance else None
            drawn.append(curve([step for step, _ in points], [value for _, value in points], title, mark=mark))
    return drawn


def _bars(scores: dict[str, Any]) -> list[tuple[str, list[tuple[str, float, float, float]]]]:
    groups = []
    for probe, name, label in (
        ("knn", "top1", "k-NN top-1"),
        ("linear", "top1", "linear top-1"),
        ("cluster", "acc", "clusters ACC"),
    ):
        tables = (("this run", scores["scores"]), *((floor, scores["floors"].get(floor, {})) for floor in ("untrained", "pixels")))
        bars = [
            (who, table[probe][name]["value"], table[probe][name]["low"], table[probe][name]["high"])
            for who, table in tables
            if name in table.get(probe, {})
        ]
        if bars:
            groups.append((label, bars))
    return groups


def _pictures(source: Source, rows: Sequence[int], side: int = 72) -> list[str]:
    batch = source.read(np.asarray(rows, dtype=np.int64))
    cut = batch.extent if batch.extent is not None else [batch.images.shape[2:]] * len(rows)
    return [thumbnail(pixels[:, : int(size[0]), : int(size[1])], side) for pixels, size in zip(batch.images, cut, strict=True)]


def _gallery(shown: ViewExamples) -> list[list[str]]:
    """Rows of pictures: the original, then its views."""
    mean, std = (np.asarray(values, dtype=np.float32)[:, None, None] for values in (shown.mean, shown.std))
    rows = []
    for number in range(len(shown.images)):
        pixels = shown.images.pixels[number].numpy()
        if shown.images.extent is not None:
            height, width = (int(side) for side in shown.images.extent[number])
            pixels = pixels[:, :height, :width]
        views = [view[number].float().numpy() for view in (*shown.views.large, *shown.views.small)]
        made = [((view * std + mean).clip(0, 1) * 255).round().astype(np.uint8) for view in views if view.shape[0] == 3]
        rows.append([thumbnail(pixels, 96), *(thumbnail(view, 96) for view in made)])
    return rows


def _neighbours(source: Source, rows: np.ndarray) -> list[list[tuple[str, str]]]:
    """For some pictures, spread over the data, those nearest to them, with cosines."""
    chosen = np.random.default_rng(0).permutation(len(rows))[:QUERIES]
    cosines, places = nearest(rows[chosen], rows, min(NEIGHBOURS + 1, len(rows)))
    sheets = []
    for row, likeness, found in zip(chosen, cosines, places, strict=True):
        others = [(int(place), float(cosine)) for place, cosine in zip(found, likeness, strict=True) if place != row][:NEIGHBOURS]
        pictures = _pictures(source, [int(row), *(place for place, _ in others)], 88)
        sheets.append(list(zip(pictures, ["", *(f"{cosine:.2f}" for _, cosine in others)], strict=True)))
    return sheets


def _cluster(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Clusters of unit-length rows: the label of each and its cosine to its centre."""
    unit = normalize(torch.from_numpy(rows))
    count = int(min(CLUSTERS, max(len(rows) // 5, 1)))
    found = kmeans(unit, count, rounds=30, spherical=True)
    return found.labels.numpy(), (unit * found.centroids[found.labels]).sum(1).numpy()


def _sheets(source: Source, rows: np.ndarray, clustering: tuple[np.ndarray, np.ndarray]) -> list[dict[str, Any]]:
    """Clusters, the most compact first: their size, compactness, most central and most distant members."""
    labels, cosines = clustering
    sheets = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = members[np.argsort(-cosines[members], kind="stable")]
        sheets.append(
            {
                "colour": PALETTE[int(label) % len(PALETTE)],
                "size": len(members),
                "share": len(members) / len(rows),
                "compactness": float(cosines[members].mean()),
                "central": _pictures(source, order[:MEMBERS].tolist(), 64),
                "distant": _pictures(source, order[MEMBERS:][-3:].tolist(), 64) if len(order) > MEMBERS else [],
            }
        )
    return sorted(sheets, key=lambda sheet: -sheet["compactness"])


def _map(source: Source, rows: np.ndarray, labels: np.ndarray) -> str:
    """The two main directions of the unit-length embedding."""
    unit = normalize(torch.from_numpy(rows))
    centred = unit - unit.mean(0)
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    places = (centred @ vectors[:, -2:].flip(1)).numpy()
    chosen = np.random.default_rng(0).permutation(len(rows))[:DOTS]
    shown = list(range(min(40, len(chosen))))
    return map_of(places[chosen], labels[chosen], _pictures(source, chosen[shown].tolist(), 40), shown)
