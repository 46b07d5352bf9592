"""The report: one self-contained HTML page about a run."""

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
from selfsight.core.cache import write_atomically
from selfsight.core.files import inside, parsing, read_json, read_json_lines
from selfsight.core.representation import Representation
from selfsight.core.results import find_result, results_folder
from selfsight.core.views import Images, Views
from selfsight.data.source import Source
from selfsight.objectives.assign import kmeans
from selfsight.render.figures import baseline_bars, curve, map_of, thumbnail
from selfsight.render.palette import PALETTE
from selfsight.workflows.evaluate.tables import score_rows

__all__ = ["ViewExamples", "write_report"]

CURVES = (
    ("loss", "loss"),
    ("accuracy", "accuracy of the pretext task"),
    ("spread", "std of the embedding (at most 1)"),
    ("effective_rank", "effective rank of the embedding"),
    ("clusters_used", "clusters in use"),
    ("gradient_norm", "norm of the gradient"),
    ("rate", "learning rate"),
)
NEIGHBOURS, QUERIES, CLUSTERS, MEMBERS, DOTS = 9, 10, 12, 10, 3000


@dataclass(frozen=True)
class ViewExamples:
    """Images, the method's views of them, and the normalisation to invert for display.

    Attributes:
        images: the original images.
        views: views of them.
        mean: mean per channel.
        std: standard deviation per channel.
    """

    images: Images
    views: Views
    mean: Sequence[float]
    std: Sequence[float]


def write_report(run: Path, phi: Representation, source: Source, bank: Bank, shown: ViewExamples | None = None) -> Path:
    """Write ``report/index.html`` in the run's folder, without scripts or external resources.

    Args:
        run: the run's folder.
        phi: its representation.
        source: data set whose images are shown.
        bank: features of the data set.
        shown: examples of views.

    Raises:
        DataError: a file of the run is damaged, or is a link to one outside of the run.
    """
    rows = np.array(bank.pooled(), dtype=np.float32)
    clustering = _cluster(rows)
    scores = _read(run, "measures/scores.json")
    with parsing(find_result(run, "measures/scores.json"), "Measure again: selfsight measure RUN --train DATA --test DATA"):
        rows_of_scores, bars = (score_rows(scores), baseline_bars(_bars(scores))) if scores else ([], "")
    environment = Environment(loader=PackageLoader("selfsight.report", "."), autoescape=select_autoescape(["html", "j2"]))
    page = environment.get_template("page.html.j2").render(
        title=run.name,
        facts=_facts(run, phi, source),
        status=_read(run, "STATUS.json"),
        curves=[Markup(svg) for svg in _curves(run)],
        rows=rows_of_scores,
        protocol=scores.get("protocol", {}),
        tested=scores,
        bars=Markup(bars),
        gallery=_gallery(shown) if shown else [],
        neighbours=_neighbours(source, rows),
        clusters=_sheets(source, rows, clustering),
        map=Markup(_map(source, rows, clustering[0])),
        palette=PALETTE,
        count=len(rows),
        bad=list(source.bad[:10]),
        bad_count=len(source.bad),
    )
    file = results_folder(run, "report") / "index.html"
    write_atomically(file, page)
    return file


def _read(run: Path, name: str) -> dict[str, Any]:
    file = find_result(run, name)
    return read_json(file) if file.is_file() else {}


def _facts(run: Path, phi: Representation, source: Source) -> list[tuple[str, str]]:
    """Network, method, data, training and machine."""
    config, origin = _read(run, "config.json"), _read(run, "origin.json")
    timing = [
        line for line in read_json_lines(inside(run, "timing.jsonl")) if {"seconds", "images_per_second", "memory_gib"} <= line.keys()
    ]
    parameters = sum(parameter.numel() for parameter in phi.backbone.parameters())
    facts = [("network", f"{phi.spec}, {parameters / 1e6:.1f} million parameters, vectors of {phi.backbone.dim}")]
    with parsing(run / "config.json"):
        facts += _training_facts(config, origin) if config else []
    if timing:
        seconds = sum(line["seconds"] for line in timing)
        speed = np.median([line["images_per_second"] for line in timing])
        facts.append(("time", f"{seconds:,.0f} s at {speed:,.0f} images/s; peak memory {timing[-1]['memory_gib']:.1f} GiB"))
    if origin:
        facts.append(("machine", f"{origin.get('processor', '')} · torch {origin.get('torch', '')} · commit {origin.get('commit', '')}"))
    facts.append(("shown images", f"{source.spec} · {len(source):,} images"))
    return facts


def _training_facts(config: dict[str, Any], origin: dict[str, Any]) -> list[tuple[str, str]]:
    steps, batch, images = config["steps"], config["batch"], origin.get("images", 0)
    epochs = f" ({steps * batch / images:.1f} epochs)" if images else ""
    return [
        ("method", config["method"]),
        ("data", f"{config['data']} · {images:,} images"),
        ("image size", f"{config['size']} x {config['size']} px"),
        (
            "training",
            f"{steps:,} steps of {batch} images{epochs}, {config['training']['optimiser']}, {config['precision']}, seed {config['seed']}",
        ),
    ]


def _curves(run: Path) -> list[str]:
    file = inside(run, "metrics.jsonl")
    records = [record for record in read_json_lines(file) if isinstance(record.get("step"), int)]
    plots = []
    for name, title in CURVES:
        points = [(record["step"], record[name]) for record in records if _finite(record.get(name))]
        if len(points) > 1:
            chance = next((record["chance"] for record in records if _finite(record.get("chance"))), None)
            mark = (chance, "chance level") if name == "loss" and chance else None
            plots.append(curve([step for step, _ in points], [value for _, value in points], title, mark=mark))
    return plots


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and bool(np.isfinite(value))


def _bars(scores: dict[str, Any]) -> list[tuple[str, list[tuple[str, float, float, float]]]]:
    groups = []
    for probe, name, label in (
        ("knn", "top1", "k-NN top-1"),
        ("linear", "top1", "linear top-1"),
        ("cluster", "acc", "clusters ACC"),
    ):
        tables = (("this run", scores["scores"]), *((baseline, scores["floors"].get(baseline, {})) for baseline in ("untrained", "pixels")))
        bars = [
            (label_name, table[probe][name]["value"], table[probe][name]["low"], table[probe][name]["high"])
            for label_name, table in tables
            if name in table.get(probe, {}) and all(map(_finite, table[probe][name].values()))
        ]
        if bars:
            groups.append((label, bars))
    return groups


def _thumbnails(source: Source, rows: Sequence[int], side: int = 72) -> list[str]:
    batch = source.read(np.asarray(rows, dtype=np.int64))
    extents = batch.extent if batch.extent is not None else [batch.images.shape[2:]] * len(rows)
    return [thumbnail(pixels[:, : int(size[0]), : int(size[1])], side) for pixels, size in zip(batch.images, extents, strict=True)]


def _gallery(examples: ViewExamples) -> list[list[str]]:
    """Rows of images: the original, then its views."""
    mean, std = (np.asarray(values, dtype=np.float32)[:, None, None] for values in (examples.mean, examples.std))
    rows = []
    for index in range(len(examples.images)):
        pixels = examples.images.pixels[index].numpy()
        if examples.images.extent is not None:
            height, width = (int(side) for side in examples.images.extent[index])
            pixels = pixels[:, :height, :width]
        views = [view[index].float().numpy() for view in (*examples.views.large, *examples.views.small)]
        shown_views = [((view * std + mean).clip(0, 1) * 255).round().astype(np.uint8) for view in views if view.shape[0] == 3]
        rows.append([thumbnail(pixels, 96), *(thumbnail(view, 96) for view in shown_views)])
    return rows


def _neighbours(source: Source, rows: np.ndarray) -> list[list[tuple[str, str]]]:
    """Nearest neighbours of some random images, with cosines."""
    chosen = np.random.default_rng(0).permutation(len(rows))[:QUERIES]
    cosines, neighbour_rows = nearest(rows[chosen], rows, min(NEIGHBOURS + 1, len(rows)))
    sheets = []
    for row, similarities, indices in zip(chosen, cosines, neighbour_rows, strict=True):
        others = [(int(neighbour), float(cosine)) for neighbour, cosine in zip(indices, similarities, strict=True) if neighbour != row][
            :NEIGHBOURS
        ]
        thumbnails = _thumbnails(source, [int(row), *(neighbour for neighbour, _ in others)], 88)
        sheets.append(list(zip(thumbnails, ["", *(f"{cosine:.2f}" for _, cosine in others)], strict=True)))
    return sheets


def _cluster(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Clusters of unit-length features: label of each image, and cosine to its centre."""
    unit = normalize(torch.from_numpy(rows))
    count = int(min(CLUSTERS, max(len(rows) // 5, 1)))
    clusters = kmeans(unit, count, rounds=30, spherical=True)
    return clusters.labels.numpy(), (unit * clusters.centroids[clusters.labels]).sum(1).numpy()


def _sheets(source: Source, rows: np.ndarray, clustering: tuple[np.ndarray, np.ndarray]) -> list[dict[str, Any]]:
    """Clusters, the most compact first: size, compactness, most central and most distant members."""
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
                "central": _thumbnails(source, order[:MEMBERS].tolist(), 64),
                "distant": _thumbnails(source, order[MEMBERS:][-3:].tolist(), 64) if len(order) > MEMBERS else [],
            }
        )
    return sorted(sheets, key=lambda sheet: -sheet["compactness"])


def _map(source: Source, rows: np.ndarray, labels: np.ndarray) -> str:
    """First two principal components of the unit-length features."""
    unit = normalize(torch.from_numpy(rows))
    centred = unit - unit.mean(0)
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    positions = (centred @ vectors[:, -2:].flip(1)).numpy()
    chosen = np.random.default_rng(0).permutation(len(rows))[:DOTS]
    shown = list(range(min(40, len(chosen))))
    return map_of(positions[chosen], labels[chosen], _thumbnails(source, chosen[shown].tolist(), 40), shown)
