"""``selfsight discover``."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from selfsight.cli.options import DeviceArg, emit, parse

__all__ = ["run"]


@dataclass(frozen=True)
class Discover:
    """What to find."""

    run: tyro.conf.Positional[Annotated[str, tyro.conf.arg(help="a run's folder, timm:NAME, or untrained:NAME")]]
    data: tyro.conf.Positional[Annotated[str, tyro.conf.arg(help="the data set: a folder, an archive, world:shapes and others")]]
    what: Annotated[
        str,
        tyro.conf.arg(
            help="with commas between: boxes (objects), segments (kinds of things over the whole data set), parts (of the objects), "
            "clusters (of whole pictures)"
        ),
    ] = "boxes"
    method: Annotated[
        str | None,
        tyro.conf.arg(
            help="one for each, with commas between; boxes: cut (tokencut), fiedler (spectral), lost, mask_cut, attention, background (found), "
            "border, centre; segments: spectral, object, patch, iic, colour; parts: shared, contrast, colour; clusters: spherical, "
            "balanced, kmeans, scan, pixels; the first by default"
        ),
    ] = None
    kinds: Annotated[
        int | None,
        tyro.conf.arg(
            help="how many segments, without ground (by default as many as the data have classes, else 10), parts (4) or clusters (as many "
            "as fit best)"
        ),
    ] = None
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
    seed: Annotated[int, tyro.conf.arg(help="of clusters")] = 0
    floors: Annotated[bool, tyro.conf.arg(help="judge the untrained network and what needs no network too")] = True
    out: Annotated[str | None, tyro.conf.arg(help="folder of the result; by default discoveries/METHOD in the run's folder")] = None
    size: Annotated[int | None, tyro.conf.arg(help="side of the network's pictures in pixels, for timm:")] = None
    device: DeviceArg = "auto"
    json: Annotated[bool, tyro.conf.arg(help="print one JSON object on standard output")] = False


def run(arguments: list[str]) -> int:
    """Discover; return the exit code."""
    read = parse(Discover, arguments, "discover", "Find objects, kinds of things, parts or clusters in pictures, without labels.")
    asked = _asked(read)
    from selfsight.api import Run
    from selfsight.data.opening import open_source

    run = Run(read.run, size=read.size, device=read.device)
    source = open_source(read.data, limit=read.limit, size=read.side or run.phi.size, truth=read.truth)
    told = {}
    for what, method in asked:
        options = _options(read, what)
        found, scores = run.discover(source, what=what, method=method, floors=read.floors, say=_say, **options)
        folder = Path(read.out) if read.out else run.path / "discoveries" / method
        facts = {"pictures": len(found.names)}
        if what == "boxes":
            facts["without"] = sum(not regions for regions in found.regions)
            _say(f"nothing was found in {facts['without']:,} of {len(found.names):,} pictures") if facts["without"] else None
        told[what] = facts | _told(found.save(folder), scores, quiet=read.json)
    if read.json:
        emit(told if len(told) > 1 else next(iter(told.values())))
    return 0


def _say(words: str) -> None:
    sys.stderr.write(f"{words}\n")


def _asked(read: Discover) -> list[tuple[str, str]]:
    """What to find, and how.

    Raises:
        UsageError: there is no such thing or method, or there are more methods than things.
    """
    from selfsight.core.errors import UsageError
    from selfsight.core.names import look_up
    from selfsight.discovering import DISCOVERIES

    things = read.what.split(",")
    methods = (read.method or "").split(",")
    if len(methods) > len(things):
        raise UsageError(f"There are {len(methods)} methods for {len(things)} things to find.", "Give one --method for each of --what.")
    methods += [""] * (len(things) - len(methods))
    kinds = [DISCOVERIES[look_up("discovery", what, DISCOVERIES)] for what in things]
    return [
        (what, look_up(f"way to find {what}", method or kind.methods[0], kind.methods))
        for what, method, kind in zip(things, methods, kinds, strict=True)
    ]


def _options(read: Discover, what: str) -> dict[str, Any]:
    """What the function that finds is told."""
    from selfsight.discover.looked import Look

    if what == "clusters":
        return {"count": read.kinds, "seed": read.seed}
    vectors = 15 if what == "segments" else 1
    look = Look(read.side, read.layer, read.facet, read.block, read.centred, read.colour, vectors, read.stride)
    options: dict[str, Any] = {"look": look, "refine": read.refine}
    if what == "boxes":
        return options | {"least": read.least}
    options["seed"] = read.seed
    return options | ({"kinds": read.kinds} if what == "segments" else {"parts": read.kinds or 4, "within": read.within})


def _told(paths: list[Path], scores: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    """Say what was found and where it is; the same for JSON."""
    from selfsight.report.tables import share_table

    if not quiet:
        if scores:
            share_table(scores)
        print(paths[0])
    plain = {name: {who: score.to_plain() for who, score in some.items()} for name, some in scores.items()}
    return {"scores": plain, "files": [str(path) for path in paths]}
