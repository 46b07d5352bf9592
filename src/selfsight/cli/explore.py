"""``selfsight explore``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from selfsight.cli.options import DeviceArg, emit, parse

__all__ = ["run"]


@dataclass(frozen=True)
class Explore:
    """What to look at."""

    runs: tyro.conf.Positional[
        Annotated[
            tuple[Path, ...], tyro.conf.arg(help="folders of runs, or of their checkpoints; the map and the clusters are of the first")
        ]
    ]
    data: Annotated[str | None, tyro.conf.arg(help="the data set; by default what the first run learnt from")] = None
    limit: Annotated[
        int | None, tyro.conf.arg(help="at most so many pictures, drawn by seed 0; by default as many as the run learnt from")
    ] = None
    maps: Annotated[
        str | None,
        tyro.conf.arg(
            help="with commas between: pacmap, umap (pip install 'selfsight[map]'), pca; by default pacmap where it is installed"
        ),
    ] = None
    port: Annotated[int, tyro.conf.arg(help="the first port that is tried; 0: any that is free")] = 8787
    browser: Annotated[bool, tyro.conf.arg(help="open the page in the browser")] = True
    untrained: Annotated[bool, tyro.conf.arg(help="show what the network said before learning, too")] = True
    host: Annotated[
        tuple[str, ...],
        tyro.conf.arg(help="names under which this machine may be asked, such as localhost:9000 where a tunnel begins at another port"),
    ] = ()
    again: Annotated[bool, tyro.conf.arg(help="prepare again, where the data have changed")] = False
    serve: Annotated[bool, tyro.conf.arg(help="serve the page; --no-serve only prepares")] = True
    export: Annotated[
        Path | None, tyro.conf.arg(help="write the page as a folder that opens from a file, read-only, in place of serving it")
    ] = None
    device: DeviceArg = "auto"
    json: Annotated[bool, tyro.conf.arg(help="print one JSON object with the address on standard output")] = False


def run(arguments: list[str]) -> int:
    """Prepare where needed and serve until interrupted; return the exit code."""
    read = parse(Explore, arguments, "explore", "See what representations have learnt from images: a page on this machine.")
    from selfsight.core.errors import UsageError
    from selfsight.explorer.server.opening import find_prepared, select_data, serve

    if not read.runs:
        raise UsageError("There is nothing to explore.", "Name a run: selfsight explore runs/NAME")
    chosen = select_data(read.runs[0], read.data, read.limit)
    folder = None if read.again or read.maps else find_prepared(read.runs, chosen)
    if folder is None:
        folder = _prepare(read)
    if read.export is not None:
        return _export(folder, read.export, json=read.json)
    if not read.serve:
        if read.json:
            emit({"folder": str(folder)})
        else:
            print(folder)
        return 0
    opened = serve(folder, port=read.port, hosts=read.host, browser=read.browser)
    if read.json:
        emit({"address": opened.address, "folder": str(folder)})
    else:
        print(f"explorer: {opened.address}\n(only this address holds the key; Ctrl-C ends it)", flush=True)
    try:
        opened.wait()
    except KeyboardInterrupt:
        opened.close()
    return 0


def _export(folder: Path, target: Path, *, json: bool) -> int:
    import sys

    from selfsight.explorer.server.static_site import export_static_site
    from selfsight.explorer.server.store import ExplorerStore

    page = export_static_site(ExplorerStore.of(folder), target, progress=lambda words: print(words, file=sys.stderr))
    if json:
        emit({"page": str(page)})
    else:
        print(page)
    return 0


def _prepare(read: Explore) -> Path:
    from selfsight.api import Run, unique_names
    from selfsight.explorer.prepare.build import find_or_prepare
    from selfsight.workflows.train.run import log

    runs = [Run(path, device=read.device) for path in read.runs]
    networks = {name: (run.phi, run.path) for name, run in zip(unique_names([run.phi.name for run in runs]), runs, strict=True)}
    maps = None if read.maps is None else read.maps.split(",")
    return find_or_prepare(networks, read.data, limit=read.limit, untrained=read.untrained, maps=maps, again=read.again, progress=log)
