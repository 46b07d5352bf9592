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
    what: Annotated[Literal["boxes", "segments"], tyro.conf.arg(help="objects, or kinds of things over the whole data set")] = "boxes"
    method: Annotated[
        str | None,
        tyro.conf.arg(
            help="boxes: attention, background (found), border, centre, cut (tokencut; the default), fiedler (spectral), lost, mask_cut; "
            "segments: spectral (the default), object, patch, iic, colour"
        ),
    ] = None
    kinds: Annotated[int | None, tyro.conf.arg(help="of segments, without ground; as many as the data have classes, else 10")] = None
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
    colour: Annotated[float, tyro.conf.arg(help="weight of likeness in colour and place beside that of features; for fiedler")] = 0.0
    least: Annotated[float, tyro.conf.arg(help="how sure a region has to be, from 0 to 1")] = 0.05
    floors: Annotated[bool, tyro.conf.arg(help="judge the untrained network and what needs no network too")] = True
    out: Annotated[str | None, tyro.conf.arg(help="folder of the result; by default discoveries/METHOD in the run's folder")] = None
    size: Annotated[int | None, tyro.conf.arg(help="side of the network's pictures in pixels, for timm:")] = None
    device: DeviceArg = "auto"
    json: Annotated[bool, tyro.conf.arg(help="print one JSON object on standard output")] = False


def run(arguments: list[str]) -> int:
    """Discover; return the exit code."""
    read = parse(Discover, arguments, "discover", "Find the objects of pictures, or the kinds of things in them, without labels.")
    from selfsight.api import Run
    from selfsight.data.opening import open_source
    from selfsight.discover.looked import Look
    from selfsight.discovering import discover_objects, discover_segments

    run = Run(read.run, size=read.size, device=read.device)
    source = open_source(read.data, limit=read.limit, size=read.side or run.phi.size, truth=read.truth)
    method = read.method or {"boxes": "cut", "segments": "spectral"}[read.what]
    vectors = 1 if read.what == "boxes" else 15
    how = {"look": Look(read.side, read.layer, read.facet, read.block, colour=read.colour, vectors=vectors), "floors": read.floors}
    how |= {"refine": read.refine, "say": lambda words: sys.stderr.write(f"{words}\n")}
    folder = Path(read.out) if read.out else run.path / "discoveries" / method
    if read.what == "segments":
        found, scores = discover_segments(run.phi, source, method, kinds=read.kinds, **how)
        return _told(read, found.save(folder), scores, "mean IoU", {"pictures": len(found.names), "kinds": found.kinds})
    found, scores = discover_objects(run.phi, source, method, least=read.least, **how)
    empty = sum(not regions for regions in found.regions)
    if empty:
        sys.stderr.write(f"nothing was found in {empty:,} of {len(found.names):,} pictures\n")
    return _told(read, found.save(folder), scores, "CorLoc", {"pictures": len(found.names), "without": empty})


def _told(read: Discover, paths: list[Path], scores: dict[str, Any], name: str, facts: dict[str, int]) -> int:
    """Say what was found and where it is."""
    from selfsight.report.tables import share_table

    if read.json:
        plain = {method: score.to_plain() for method, score in scores.items()}
        emit({**facts, name.lower().replace(" ", "_"): plain, "files": [str(path) for path in paths]})
        return 0
    if scores:
        share_table(name, scores)
    print(paths[0])
    return 0
