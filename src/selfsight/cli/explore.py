"""``selfsight explore``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from selfsight.cli.options import DeviceArg, emit, parse

__all__ = ["run"]


@dataclass(frozen=True)
class Explore:
    """Options of ``explore``."""

    runs: tyro.conf.Positional[
        Annotated[tuple[Path, ...], tyro.conf.arg(help="folders of runs, or of their checkpoints; the map and the clusters use the first")]
    ]
    data: Annotated[str | None, tyro.conf.arg(help="the data set; by default the training data of the first run")] = None
    limit: Annotated[int | None, tyro.conf.arg(help="use a random subset of this size; by default that of the run")] = None
    maps: Annotated[
        str | None,
        tyro.conf.arg(help="separated by commas: pacmap, umap (pip install 'selfsight[map]'), pca; by default pacmap if it is installed"),
    ] = None
    port: Annotated[int, tyro.conf.arg(help="the first port that is tried; 0: any free port")] = 8787
    browser: Annotated[bool, tyro.conf.arg(help="open the page in a browser")] = True
    untrained: Annotated[bool, tyro.conf.arg(help="also show the untrained network")] = True
    host: Annotated[
        tuple[str, ...],
        tyro.conf.arg(help="additional host names of this machine, such as localhost:9000 for a tunnel from another port"),
    ] = ()
    rebuild: Annotated[bool, tyro.conf.arg(help="prepare again, if the data have changed")] = False
    serve: Annotated[bool, tyro.conf.arg(help="serve the page; --no-serve only prepares")] = True
    export: Annotated[
        Path | None, tyro.conf.arg(help="write the page as a read-only folder that opens from a file, instead of serving it")
    ] = None
    device: DeviceArg = "auto"
    json: Annotated[bool, tyro.conf.arg(help="print one JSON object with the address on standard output")] = False


def run(arguments: list[str]) -> int:
    """Prepare the data set if needed and serve it until interrupted; returns the exit code."""
    options = parse(Explore, arguments, "explore", "Explore a data set and its representations in a local web page.")
    from selfsight.core.errors import UsageError
    from selfsight.explorer.server.opening import find_prepared, select_data, serve

    if not options.runs:
        raise UsageError("There is nothing to explore.", "Name a run: selfsight explore runs/NAME")
    chosen = select_data(options.runs[0], options.data, options.limit)
    folder = None if options.rebuild or options.maps else find_prepared(options.runs, chosen)
    if folder is None:
        folder = _prepare(options)
    if options.export is not None:
        return _export(folder, options.export, json=options.json)
    if not options.serve:
        if options.json:
            emit({"folder": str(folder)})
        else:
            print(folder)
        return 0
    server = serve(folder, port=options.port, hosts=options.host, browser=options.browser, entered=_announce)
    if options.json:
        emit({"address": server.address, "folder": str(folder)})
    else:
        print(f"explorer: {server.address}\n(the address is valid once, for one browser; Ctrl-C stops the server)", flush=True)
    try:
        server.wait()
    except KeyboardInterrupt:
        server.close()
    return 0


def _announce(address: str) -> None:
    import sys

    print(f"explorer, for another browser: {address}", file=sys.stderr, flush=True)


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


def _prepare(options: Explore) -> Path:
    from selfsight.api import Run, unique_names
    from selfsight.explorer.prepare.build import find_or_prepare
    from selfsight.workflows.train.run import log

    runs = [Run(path, device=options.device) for path in options.runs]
    networks = {name: (run.phi, run.path) for name, run in zip(unique_names([run.phi.name for run in runs]), runs, strict=True)}
    maps = None if options.maps is None else options.maps.split(",")
    return find_or_prepare(
        networks, options.data, limit=options.limit, untrained=options.untrained, maps=maps, rebuild=options.rebuild, progress=log
    )
