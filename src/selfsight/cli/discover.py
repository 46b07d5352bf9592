"""``selfsight discover``."""

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from selfsight.cli.options import DeviceArg, emit, parse
from selfsight.core.registry import Entry, Registry
from selfsight.workflows.discover.table import DISCOVERIES

if TYPE_CHECKING:
    from selfsight.api import Run
    from selfsight.data.source import Source

__all__ = ["run"]

LABELS = "labels"
"""What is not found in images, but taken from the explorer."""
LABEL_METHODS = Registry("way to find labels", "selfsight.explorer.server", (Entry("names", "exports:exported", "names of clusters"),))


@dataclass(frozen=True)
class Discover:
    """What to find."""

    run: tyro.conf.Positional[Annotated[str, tyro.conf.arg(help="a run's folder, timm:NAME, or untrained:NAME")]]
    data: tyro.conf.Positional[Annotated[str, tyro.conf.arg(help="the data set: a folder, an archive, world:shapes and others")]]
    what: Annotated[
        str,
        tyro.conf.arg(
            help="with commas between: "
            + ", ".join(f"{name} ({entry.summary})" for name, entry in DISCOVERIES.items())
            + f", {LABELS} (names that clusters were given in the explorer, as a table)"
        ),
    ] = "boxes"
    method: Annotated[
        str | None,
        tyro.conf.arg(
            help="one for each, with commas between; "
            + "; ".join(f"{name}: {entry.choices.listing()}" for name, entry in DISCOVERIES.items() if entry.choices)
            + "; the first by default"
        ),
    ] = None
    classes: Annotated[
        int | None,
        tyro.conf.arg(
            help="how many segments, without ground (by default as many as the data have classes, else 10), parts (4) or clusters (as many "
            "as fit best; for selection, too)"
        ),
    ] = None
    count: Annotated[int, tyro.conf.arg(help="selection: how many pictures, at most")] = 30
    within: Annotated[str | None, tyro.conf.arg(help="parts: the method of boxes that tells objects; by default what pictures share")] = (
        None
    )
    refine: Annotated[bool, tyro.conf.arg(help="move edges to those of colours")] = False
    truth: Annotated[str | None, tyro.conf.arg(help="true boxes or masks: COCO .json, VOC .xml, YOLO .txt, or a folder of masks")] = None
    limit: Annotated[int | None, tyro.conf.arg(help="at most so many pictures, drawn by seed 0")] = None
    side: Annotated[int | None, tyro.conf.arg(help="shorter side at which pictures are looked at; by default that of the network")] = None
    layer: Annotated[str | None, tyro.conf.arg(help="a layer's output in place of a facet")] = None
    facet: Annotated[
        Literal["auto", "key", "query", "value", "token"],
        tyro.conf.arg(help="of an attention block; auto: keys, or the last grid where there is no attention"),
    ] = "auto"
    block: Annotated[int, tyro.conf.arg(help="which attention block, from the end with -1")] = -1
    centred: Annotated[
        bool | None, tyro.conf.arg(help="take the mean over a picture's places off; by default where there is no attention")
    ] = None
    stride: Annotated[int | None, tyro.conf.arg(help="pixels between tokens of a vision transformer, from overlapping patches")] = None
    colour: Annotated[float, tyro.conf.arg(help="weight of likeness in colour and place beside that of features; for fiedler")] = 0.0
    least: Annotated[float, tyro.conf.arg(help="boxes: how sure a region has to be, from 0 to 1")] = 0.05
    seed: Annotated[int, tyro.conf.arg(help="of all chance")] = 0
    floors: Annotated[bool, tyro.conf.arg(help="judge the untrained network and what needs no network too")] = True
    out: Annotated[
        str | None,
        tyro.conf.arg(
            help="folder of the result; by default discoveries/METHOD in the run's folder, of duplicates, selection and labels discoveries/WHAT"
        ),
    ] = None
    size: Annotated[int | None, tyro.conf.arg(help="side of the network's pictures in pixels, for timm:")] = None
    device: DeviceArg = "auto"
    json: Annotated[bool, tyro.conf.arg(help="print one JSON object on standard output")] = False


def run(arguments: list[str]) -> int:
    """Discover; return the exit code."""
    words = "Find objects, segments, parts, clusters or duplicates in pictures, without labels, and what to label."
    read = parse(Discover, arguments, "discover", words)
    asked = _asked(read)

    @cache
    def opened() -> "tuple[Run, Source]":
        from selfsight.api import Run
        from selfsight.data.opening import open_source

        run = Run(read.run, size=read.size, device=read.device)
        return run, open_source(read.data, limit=read.limit, size=read.side or run.phi.size, truth=read.truth)

    told = {what: _labels(read) if what == LABELS else _found(read, what, method, *opened()) for what, method in asked}
    if read.json:
        emit(told if len(told) > 1 else next(iter(told.values())))
    return 0


def _found(read: Discover, what: str, method: str, run: "Run", source: "Source") -> dict[str, Any]:
    """Find one thing, write it down and say it; the same for JSON."""
    lone = what in DISCOVERIES.having("own_folder")
    found, scores = run.discover(source, what=what, method=method, floors=read.floors, progress=_say, **_options(read, what))
    folder = _folder(read, run.path, what if lone else method)
    facts = {"pictures": len(found.names)}
    if what == "boxes":
        facts["without"] = sum(not regions for regions in found.regions)
        _say(f"nothing was found in {facts['without']:,} of {len(found.names):,} pictures") if facts["without"] else None
    if lone:
        facts |= found.counts()
        print(found.words()) if not read.json else None
    return facts | _told(found.save(folder), scores, quiet=read.json)


def _folder(read: Discover, run: Path, name: str) -> Path:
    return Path(read.out) if read.out else run / "discoveries" / name


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")


def _asked(read: Discover) -> list[tuple[str, str]]:
    """What to find, and how.

    Raises:
        UsageError: there is no such thing or method, or there are more methods than things.
    """
    from selfsight.core.errors import UsageError
    from selfsight.core.names import look_up

    things = read.what.split(",")
    methods = (read.method or "").split(",")
    if len(methods) > len(things):
        raise UsageError(f"There are {len(methods)} methods for {len(things)} things to find.", "Give one --method for each of --what.")
    methods += [""] * (len(things) - len(methods))
    asked = []
    for what, method in zip(things, methods, strict=True):
        registry = LABEL_METHODS if look_up("discovery", what, (*DISCOVERIES, LABELS)) == LABELS else DISCOVERIES[what].choices
        assert registry is not None
        method = method or registry.default
        registry.resolve(method)
        asked.append((what, method))
    return asked


def _options(read: Discover, what: str) -> dict[str, Any]:
    """What the function that finds is told."""
    from selfsight.discover.dense.features import FeatureSpec

    if what == "clusters":
        return {"count": read.classes, "seed": read.seed}
    if what == "selection":
        return {"classes": read.classes, "count": read.count, "seed": read.seed}
    if what == "duplicates":
        return {}
    vectors = 15 if what == "segments" else 1
    look = FeatureSpec(read.side, read.layer, read.facet, read.block, read.centred, read.colour, vectors, read.stride)
    options: dict[str, Any] = {"feature_spec": look, "refine": read.refine}
    if what == "boxes":
        return options | {"least": read.least}
    options["seed"] = read.seed
    return options | ({"classes": read.classes} if what == "segments" else {"parts": read.classes or 4, "within": read.within})


def _told(paths: list[Path], scores: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    """Say what was found and where it is; the same for JSON."""
    if not quiet:
        if scores:
            from selfsight.workflows.evaluate.tables import share_table

            share_table(scores)
        print(paths[0])
    plain = {name: {who: score.to_json() for who, score in some.items()} for name, some in scores.items()}
    return {"scores": plain, "files": [str(path) for path in paths]}


def _labels(read: Discover) -> dict[str, Any]:
    """Write the names that clusters have in the explorer as labels and say how often each is; the same for JSON.

    Raises:
        UsageError: nothing was prepared, or no cluster has a name.
    """
    from shlex import quote

    from selfsight.core.errors import UsageError
    from selfsight.explorer.server.opening import find_all_prepared

    home = _home(read)
    folders = find_all_prepared(home, read.data, read.limit)
    remedy = f"Name clusters on its page, then come back: selfsight explore {quote(str(home))} --data {quote(read.data)}"
    remedy += f" --limit {read.limit}" if read.limit is not None else ""
    if not folders:
        raise UsageError(f"{read.data} was not explored with {home}, or {home} has learnt since.", remedy)
    for folder in folders:
        content, counts = _named(folder)
        if counts:
            break
    else:
        raise UsageError(f"No cluster of {read.data} has a name.", remedy)
    target = _folder(read, home, LABELS)
    target.mkdir(parents=True, exist_ok=True)
    (target / "labels.csv").write_bytes(content)
    _say(f"names were given in {folder}")
    if not read.json:
        _count_table(counts)
    return {"pictures": sum(counts.values()), "labels": counts} | _told([target / "labels.csv"], {}, quiet=read.json)


def _home(read: Discover) -> Path:
    """Where results of the run go."""
    if Path(read.run).is_dir():
        return Path(read.run)
    from selfsight.api import Run

    return Run(read.run, size=read.size, device=read.device).path


def _named(folder: Path) -> tuple[bytes, dict[str, int]]:
    """A table of labels, and how many pictures have each, the commonest first."""
    import csv
    import io
    from collections import Counter

    import numpy as np

    from selfsight.explorer.server.exports import exported
    from selfsight.explorer.server.store import ExplorerStore

    shelf = ExplorerStore.of(folder)
    try:
        content, _ = exported(shelf, np.arange(len(shelf.pack)), LABELS)
    finally:
        shelf.edits.close()
    lines = csv.DictReader(io.StringIO(content.decode(), newline=""))
    return content, dict(Counter(line["label"] for line in lines).most_common())


def _count_table(counts: dict[str, int]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("label", title="pictures of each label", title_justify="left")
    table.add_column("pictures", justify="right", no_wrap=True)
    for label, count in counts.items():
        table.add_row(escape(label), f"{count:,}")
    Console().print(table)
