"""Opens the explorer: finds prepared data sets without loading a network, and serves the page on this machine only. Torch-free."""

import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from selfsight.core.cache import digest_of, remove_stale, write_atomically
from selfsight.core.errors import DataError, EnvironmentFault, UsageError
from selfsight.core.files import inside, parsing, read_json
from selfsight.core.json_text import json_text
from selfsight.core.results import find_result, results_folder
from selfsight.explorer.server.jobs import Jobs
from selfsight.explorer.server.pack import Pack, is_prepared, jobs_folder, network_folders, run_folder, stamp
from selfsight.explorer.server.store import ExplorerStore

__all__ = [
    "DataSelection",
    "RunningServer",
    "absolute_spec",
    "find_all_prepared",
    "find_prepared",
    "record_prepared",
    "select_data",
    "serve",
]

PORTS = 20
MOST_PORT = 65_535
"""Number of ports that are tried, from the requested one."""
OPTIONS: dict[str, Any] = {
    "log_level": "warning", "access_log": False, "server_header": False, "date_header": False, "lifespan": "off", "ws": "none",
}  # fmt: skip
"""Options of uvicorn."""
WORKER = ("-m", "selfsight.explorer.worker.worker")
FRAME = """(() => {
  if (!["localhost", "127.0.0.1"].includes(location.hostname)) return;
  const frame = document.createElement("iframe");
  frame.src = "http://" + location.hostname + REST;
  frame.title = "selfsight explorer";
  frame.style.cssText = "width: 100%; height: 760px; border: 1px solid #8886; border-radius: 8px";
  document.getElementById(NAME).append(frame);
})()"""
"""Embeds the page under the host name of the notebook's page, because cookies are not sent to another site; only on this machine."""


def absolute_spec(data: str) -> str:
    """Name of a data set that does not depend on the working folder: paths are made absolute."""
    return str(Path(data).resolve()) if Path(data).exists() else data


def _weights(run: Path) -> Path:
    """The file that changes with a run's weights."""
    exported, partial = run / "export" / "model.safetensors", run / "method.safetensors"
    return exported if exported.is_file() else partial if partial.is_file() else run / "checkpoints" / "last.json"


@dataclass(frozen=True)
class DataSelection:
    """A data set or a subset of it.

    Attributes:
        data: name of the data set.
        limit: size of the random subset; ``None``: all images.
        seed: seed of the subset.
    """

    data: str
    limit: int | None = None
    seed: int = 0


def select_data(run: Path, data: str | None = None, limit: int | None = None) -> DataSelection:
    """The requested data set, by default the training data of a run, without loading its network.

    Args:
        run: the run's folder.
        data: name of a data set; None: the training data of the run.
        limit: size of a random subset; None: all images, or the run's own subset.

    Raises:
        UsageError: the folder is not a run, or its training data are not known.
    """
    if data is not None:
        return DataSelection(absolute_spec(data), limit)
    file = inside(run_folder(run), "config.json")
    if not file.is_file():
        raise UsageError(f"{run} is not a run, or its training data are unknown.", "Name the images: --data DATA")
    config = read_json(file)
    with parsing(file):
        subset = (config.get("limit"), int(config.get("seed", 0))) if limit is None else (limit, 0)
        if not isinstance(config["data"], str):
            raise TypeError(f"data is {config['data']!r}")
        return DataSelection(absolute_spec(config["data"]), *subset)


def _selection_key(runs: Sequence[Path], chosen: DataSelection) -> str:
    """Digest of the runs' weights and the selected images."""
    stamps = [
        (path.name, file.stat().st_mtime_ns, file.stat().st_size) if file.is_file() else path.name
        for path, file in zip(runs, map(_weights, runs), strict=True)
    ]
    subset = [] if chosen.limit is None else [chosen.limit, chosen.seed]
    return digest_of([stamps, chosen.data, *subset])


def _index(runs: Sequence[Path]) -> dict[str, str]:
    index = find_result(run_folder(runs[0]), "explorer/index.json")
    try:
        return {key: name for key, name in read_json(index).items() if isinstance(name, str)} if index.is_file() else {}
    except DataError:
        return {}  # what was prepared is found by its digest, or prepared again


def find_prepared(runs: Sequence[Path], chosen: DataSelection) -> Path | None:
    """The folder that was prepared for some runs and images; ``None`` if there is none.

    Args:
        runs: folders of the runs.
        chosen: the selected images.

    Raises:
        DataError: it is not in the folder of the first run, or it uses a run that is not among these.
    """
    name = _index(runs).get(_selection_key(runs, chosen))
    if not name:
        return None
    folder = inside(find_result(run_folder(runs[0]), "explorer/index.json").parent, name)
    if not is_prepared(folder):
        return None
    known = {run.resolve() for run in runs}
    for one in Pack(folder).about["networks"]:
        run = network_folders(folder, one)[1]
        if run is not None and run.resolve() not in known:
            raise DataError(
                f"{folder} uses the run {str(run.resolve())!r}, which was not named.",
                "Name it as well: selfsight explore RUN OTHER; or delete the folder, and it is prepared again.",
            )
    return folder


def find_all_prepared(run: Path, data: str, limit: int | None = None) -> list[Path]:
    """Prepared folders of a run and a data set: of the run alone first, then with other runs, fewest first.

    Args:
        run: the run's folder.
        data: name of the data set.
        limit: size of the random subset; None: any.
    """
    with_others: list[tuple[int, Path]] = []
    home = find_result(run_folder(run), "explorer/index.json").parent
    for file in home.glob("*/pack.json"):
        try:
            about = read_json(inside(home, file.relative_to(home)))
            with parsing(file):
                chosen = DataSelection(about["data"], about.get("limit"), about.get("seed", 0))
                runs = [run.resolve() for _, run in (network_folders(file.parent, one) for one in about["networks"]) if run]
        except DataError:
            continue
        if runs and chosen.data == absolute_spec(data) and limit in (None, chosen.limit):
            own = find_prepared(runs, chosen)
            with_others += [(len(runs), file.parent)] if own and own.name == file.parent.name else []
    first = find_prepared([run], select_data(run, data, limit))
    return list(dict.fromkeys([*([first] if first else []), *(folder for _, folder in sorted(with_others))]))


def record_prepared(runs: Sequence[Path], chosen: DataSelection, pack: Pack) -> None:
    """Record a prepared folder.

    Args:
        runs: folders of the runs.
        chosen: the selected images.
        pack: the prepared data set.
    """
    content = json_text({**_index(runs), _selection_key(runs, chosen): pack.path.name}, indent=1)
    write_atomically(results_folder(run_folder(runs[0]), "explorer") / "index.json", content + "\n")


@dataclass(frozen=True)
class RunningServer:
    """A running server.

    Attributes:
        enter: makes an address of the page with a key that is valid once.
        close: stops the server.
        wait: waits until it stops.
        frames: whether notebooks may embed it.
    """

    enter: Callable[[], str]
    close: Callable[[], None]
    wait: Callable[[], None]
    frames: bool = False

    @property
    def address(self) -> str:
        """A new address of the page; it is valid once, for one browser, which then keeps a cookie."""
        return self.enter()

    def _repr_html_(self) -> str:
        """The page itself in a notebook of this machine, otherwise a link, which contains a key."""
        link = f'<p><a href="{escape(self.address)}" target="_blank" rel="noreferrer">open the explorer in its own page</a></p>'
        if not self.frames:
            return link
        name = f"selfsight-{secrets.token_hex(4)}"
        rest = json_text(self.address.removeprefix("http://127.0.0.1"))
        script = FRAME.replace("NAME", json_text(name)).replace("REST", rest)
        return f'<div id="{name}"></div><script>{script}</script>{link}'


def serve(
    folder: Path, *, port: int = 8787, hosts: Iterable[str] = (), browser: bool = False, work: bool = True, frames: bool | None = None,
    entered: Callable[[str], None] | None = None,
) -> RunningServer:  # fmt: skip
    """Serve a prepared data set on this machine.

    Args:
        folder: the prepared data set.
        port: the first port that is tried.
        hosts: additional host names of this machine.
        browser: open the page in a browser.
        work: allow jobs.
        frames: allow pages of this machine to embed it in a frame; None: in notebooks only.
        entered: called with a new address each time another address than that of the opened browser was used.

    Raises:
        EnvironmentFault: no port is free.
    """
    import uvicorn  # imported here because it is slow to import

    from selfsight.explorer.server.app import make_server
    from selfsight.explorer.server.connections import TimedConnection
    from selfsight.explorer.server.guard import Guard

    store = ExplorerStore.of(folder)
    results = jobs_folder(folder)
    remove_stale(folder.parent)
    listener = _listener(port)
    number = listener.getsockname()[1]
    jobs = Jobs(results, [*WORKER, str(folder)], stamp(folder)) if work else None
    frames = "ipykernel" in sys.modules if frames is None else frames
    announce = entered and (lambda: entered(guard.new_address()))
    guard = Guard(make_server(store, jobs), port=number, hosts=hosts, frames=frames, entered=announce)
    server = uvicorn.Server(uvicorn.Config(guard, http=TimedConnection, **OPTIONS))  # pyright: ignore[reportArgumentType]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="explorer", daemon=True)
    thread.start()
    if browser:
        webbrowser.open(guard.new_address(announce=False))
    return RunningServer(guard.new_address, lambda: _end(server, thread, jobs, store, listener), thread.join, frames)


def _end(server: Any, thread: threading.Thread, jobs: Jobs | None, store: ExplorerStore, listener: socket.socket) -> None:
    server.should_exit = True
    thread.join(timeout=5)
    if jobs is not None:
        jobs.close()
    store.edits.close()
    listener.close()


def _listener(port: int) -> socket.socket:
    """A socket on the first free port from the given one."""
    if not 0 <= port <= MOST_PORT:
        raise UsageError(f"{port} is not a port.", f"Use one up to {MOST_PORT}, or 0 for any that is free.")
    for number in [port, *range(port + 1, min(port + PORTS, MOST_PORT + 1))] if port else [0]:
        # asyncio sets TCP_NODELAY only for an explicit protocol
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", number))
            listener.listen(128)
        except OSError:
            listener.close()
            continue
        return listener
    raise EnvironmentFault(f"Ports {port} to {port + PORTS - 1} are in use.", "Use another: --port 9000.")
