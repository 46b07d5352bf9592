"""``selfsight discover``."""

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from selfsight.cli.options import DeviceArg, emit, parse
from selfsight.core.results import results_folder
from selfsight.workflows.discover.table import DISCOVERIES, method_name

if TYPE_CHECKING:
    from selfsight.api import Run
    from selfsight.data.source import Source

__all__ = ["run"]

LABELS = "labels"
"""Exports labels from the explorer instead of finding something."""


@dataclass(frozen=True)
class Discover:
    """Options of ``discover``."""

    run: tyro.conf.Positional[Annotated[str, tyro.conf.arg(help="a run's folder, timm:NAME, or untrained:NAME")]]
    data: tyro.conf.Positional[Annotated[str, tyro.conf.arg(help="the data set: a folder, an archive, world:shapes and others")]]
    what: Annotated[
        str,
        tyro.conf.arg(
            help="separated by commas: "
            + ", ".join(f"{name} ({entry.summary})" for name, entry in DISCOVERIES.items())
            + f", {LABELS} (names of clusters from the explorer, as a table)"
        ),
    ] = "boxes"
    method: Annotated[
        str | None,
        tyro.conf.arg(
            help="one for each, separated by commas; "
            + "; ".join(f"{name}: {entry.choices.listing()}" for name, entry in DISCOVERIES.items() if entry.choices)
            + "; by default the first"
        ),
    ] = None
    classes: Annotated[
        int | None,
        tyro.conf.arg(
            help="number of segments without background (default: the number of classes of the data, otherwise 10), of parts (default: 4), or "
            "of clusters (default: by silhouette; also for selection)"
        ),
    ] = None
    count: Annotated[int, tyro.conf.arg(help="selection: maximum number of images")] = 30
    foreground: Annotated[str | None, tyro.conf.arg(help="parts: localiser of the objects; by default co-segmentation")] = None
    refine: Annotated[bool, tyro.conf.arg(help="move edges to colour edges")] = False
    truth: Annotated[str | None, tyro.conf.arg(help="annotated boxes or masks: COCO .json, VOC .xml, YOLO .txt, or a folder of masks")] = (
        None
    )
    limit: Annotated[int | None, tyro.conf.arg(help="use a random subset of this size")] = None
    side: Annotated[int | None, tyro.conf.arg(help="shorter side of the images in pixels; by default that of the network")] = None
    layer: Annotated[str | None, tyro.conf.arg(help="output of a layer instead of a facet")] = None
    facet: Annotated[
        Literal["auto", "key", "query", "value", "token"],
        tyro.conf.arg(help="facet of an attention block; auto: keys, or the last feature map without attention"),
    ] = "auto"
    block: Annotated[int, tyro.conf.arg(help="index of the attention block, negative from the end")] = -1
    centred: Annotated[
        bool | None, tyro.conf.arg(help="subtract the mean over the locations of an image; by default without attention")
    ] = None
    stride: Annotated[int | None, tyro.conf.arg(help="pixels between tokens of a vision transformer, from overlapping patches")] = None
    colour: Annotated[
        float, tyro.conf.arg(help="weight of the affinity in colour and position relative to that of features; for fiedler")
    ] = 0.0
    min_confidence: Annotated[float, tyro.conf.arg(help="boxes: minimum confidence of a region, from 0 to 1")] = 0.05
    seed: Annotated[int, tyro.conf.arg(help="seed of all random choices")] = 0
    baselines: Annotated[bool, tyro.conf.arg(help="also score the baselines: the untrained network and methods without a network")] = True
    out: Annotated[
        str | None,
        tyro.conf.arg(
            help="folder of the result; by default discoveries/METHOD in the run's folder, for duplicates, selection and labels discoveries/WHAT"
        ),
    ] = None
    size: Annotated[int | None, tyro.conf.arg(help="side of the network's images in pixels, for timm:")] = None
    device: DeviceArg = "auto"
    json: Annotated[bool, tyro.conf.arg(help="print one JSON object on standard output")] = False


def run(arguments: list[str]) -> int:
    """Discover; returns the exit code."""
    description = "Find objects, segments, parts, clusters or duplicates in images without labels, and select images for labelling."
    options = parse(Discover, arguments, "discover", description)
    requested = _requested(options)

    @cache
    def opened() -> "tuple[Run, Source]":
        from selfsight.api import Run
        from selfsight.data.opening import open_source

        run = Run(options.run, size=options.size, device=options.device)
        return run, open_source(options.data, limit=options.limit, size=options.side or run.phi.size, truth=options.truth)

    results = {what: _labels(options) if what == LABELS else _discover(options, what, method, *opened()) for what, method in requested}
    if options.json:
        emit(results if len(results) > 1 else next(iter(results.values())))
    return 0


def _discover(options: Discover, what: str, method: str, run: "Run", source: "Source") -> dict[str, Any]:
    """Find one thing, save and print it; returns the same for JSON."""
    own_folder = what in DISCOVERIES.having("own_folder")
    found, scores = run.discover(source, what=what, method=method, baselines=options.baselines, progress=_say, **_options(options, what))
    folder = _folder(options, run.path, what if own_folder else method)
    facts = {"pictures": len(found.names)}
    if what == "boxes":
        facts["without"] = sum(not regions for regions in found.regions)
        _say(f"no object in {facts['without']:,} of {len(found.names):,} images") if facts["without"] else None
    if own_folder:
        facts |= found.counts()
        print(found.words()) if not options.json else None
    return facts | _reported(found.save(folder), scores, quiet=options.json)


def _folder(options: Discover, run: Path, name: str) -> Path:
    return Path(options.out) if options.out else results_folder(run, f"discoveries/{name}")


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")


def _requested(options: Discover) -> list[tuple[str, str]]:
    """Requested discoveries with their methods.

    Raises:
        UsageError: a discovery or a method does not exist, or there are more methods than discoveries.
    """
    from selfsight.core.errors import UsageError
    from selfsight.core.names import look_up

    discoveries = options.what.split(",")
    methods = (options.method or "").split(",")
    if len(methods) > len(discoveries):
        raise UsageError(f"There are {len(methods)} methods for {len(discoveries)} discoveries.", "Use one --method for each of --what.")
    methods += [""] * (len(discoveries) - len(methods))
    requested = []
    for what, method in zip(discoveries, methods, strict=True):
        look_up("discovery", what, (*DISCOVERIES, LABELS))
        requested.append(
            (what, look_up("way to find labels", method or "names", ("names",)) if what == LABELS else method_name(what, method))
        )
    return requested


def _options(read: Discover, what: str) -> dict[str, Any]:
    """Options of the discovery."""
    from selfsight.discover.dense.features import FeatureSpec

    if what == "clusters":
        return {"count": read.classes, "seed": read.seed}
    if what == "selection":
        return {"classes": read.classes, "count": read.count, "seed": read.seed}
    if what == "duplicates":
        return {}
    vectors = 15 if what == "segments" else 1
    feature_spec = FeatureSpec(read.side, read.layer, read.facet, read.block, read.centred, read.colour, vectors, read.stride)
    options: dict[str, Any] = {"feature_spec": feature_spec, "refine": read.refine}
    if what == "boxes":
        return options | {"min_confidence": read.min_confidence}
    options["seed"] = read.seed
    return options | ({"classes": read.classes} if what == "segments" else {"parts": read.classes or 4, "foreground": read.foreground})


def _reported(paths: list[Path], scores: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    """Print scores and the path of the result; returns the same for JSON."""
    if not quiet:
        if scores:
            from selfsight.workflows.evaluate.tables import share_table

            share_table(scores)
        print(paths[0])
    plain_scores = {name: {method: score.to_json() for method, score in by_method.items()} for name, by_method in scores.items()}
    return {"scores": plain_scores, "files": [str(path) for path in paths]}


def _labels(options: Discover) -> dict[str, Any]:
    """Save the names of clusters in the explorer as labels and print their counts; returns the same for JSON.

    Raises:
        UsageError: nothing was prepared, or no cluster has a name.
    """
    from shlex import quote

    from selfsight.core.errors import UsageError
    from selfsight.explorer.server.opening import find_all_prepared

    home = _home(options)
    folders = find_all_prepared(home, options.data, options.limit)
    remedy = f"Name clusters in the explorer first: selfsight explore {quote(str(home))} --data {quote(options.data)}"
    remedy += f" --limit {options.limit}" if options.limit is not None else ""
    if not folders:
        raise UsageError(f"{options.data} was not explored with the current weights of {home}.", remedy)
    for folder in folders:
        content, counts = _label_table(folder)
        if counts:
            break
    else:
        raise UsageError(f"No cluster of {options.data} has a name.", remedy)
    target = _folder(options, home, LABELS)
    target.mkdir(parents=True, exist_ok=True)
    (target / "labels.csv").write_bytes(content)
    _say(f"names of clusters are from {folder}")
    if not options.json:
        _count_table(counts)
    return {"pictures": sum(counts.values()), "labels": counts} | _reported([target / "labels.csv"], {}, quiet=options.json)


def _home(options: Discover) -> Path:
    """Folder of the run's results."""
    if Path(options.run).is_dir():
        return Path(options.run)
    from selfsight.api import Run

    return Run(options.run, size=options.size, device=options.device).path


def _label_table(folder: Path) -> tuple[bytes, dict[str, int]]:
    """A table of labels, and the number of images per label, most frequent first."""
    import csv
    import io
    from collections import Counter

    import numpy as np

    from selfsight.core.spreadsheets import original_text
    from selfsight.explorer.server.exports import exported
    from selfsight.explorer.server.store import ExplorerStore

    store = ExplorerStore.of(folder)
    try:
        content, _ = exported(store, np.arange(len(store.pack)), LABELS)
    finally:
        store.edits.close()
    lines = csv.DictReader(io.StringIO(content.decode(), newline=""))
    return content, dict(Counter(original_text(line["label"]) for line in lines).most_common())


def _count_table(counts: dict[str, int]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("label", title="images per label", title_justify="left")
    table.add_column("images", justify="right", no_wrap=True)
    for label, count in counts.items():
        table.add_row(escape(label), f"{count:,}")
    Console().print(table)
