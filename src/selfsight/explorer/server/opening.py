"""Opening the explorer: what was prepared before is found without a network; then the page is served on this machine alone. Torch-free."""

import hashlib
import json
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

from selfsight.core.errors import EnvironmentFault, UsageError
from selfsight.explorer.server.jobs import Jobs
from selfsight.explorer.server.pack import Pack, is_prepared, run_folder, stamp
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
"""How many are tried, from the one that was asked for."""
WORKER = ("-m", "selfsight.explorer.worker.worker")
FRAME = """(() => {
  if (!["localhost", "127.0.0.1"].includes(location.hostname)) return;
  const frame = document.createElement("iframe");
  frame.src = "http://" + location.hostname + REST;
  frame.title = "selfsight explorer";
  frame.style.cssText = "width: 100%; height: 760px; border: 1px solid #8886; border-radius: 8px";
  document.getElementById(NAME).append(frame);
})()"""
"""Shows the page under the name that the notebook's own page has, for cookies are not sent to another site; of another machine not at all."""


def absolute_spec(data: str) -> str:
    """A data set's name that means the same from every folder: a path from the root, where it is one."""
    return str(Path(data).resolve()) if Path(data).exists() else data


def _weights(run: Path) -> Path:
    """The file that changes with a run's weights."""
    whole, part = run / "export" / "model.safetensors", run / "method.safetensors"
    return whole if whole.is_file() else part if part.is_file() else run / "checkpoints" / "last.json"


@dataclass(frozen=True)
class DataSelection:
    """Which pictures are looked at.

    Attributes:
        data: the data set's name.
        limit, seed: so many of them, drawn by the seed; ``None``: all.
    """

    data: str
    limit: int | None = None
    seed: int = 0


def select_data(run: Path, data: str | None = None, limit: int | None = None) -> DataSelection:
    """The pictures that were asked for; by default those that a run learnt from, which is read without loading its network.

    Raises:
        UsageError: the folder is no run's, or what it learnt from is not known.
    """
    if data is not None:
        return DataSelection(absolute_spec(data), limit)
    file = run_folder(run) / "config.json"
    if not file.is_file():
        raise UsageError(f"{run} is no run, or what it learnt from is not known.", "Name the images: --data DATA")
    known = json.loads(file.read_text())
    drawn = (known.get("limit"), int(known.get("seed", 0))) if limit is None else (limit, 0)
    return DataSelection(absolute_spec(str(known["data"])), *drawn)


def _selection_key(runs: Sequence[Path], chosen: DataSelection) -> str:
    """Changes with the runs' weights and the pictures' choice."""
    stamps = [
        (path.name, file.stat().st_mtime_ns, file.stat().st_size) if file.is_file() else path.name
        for path, file in zip(runs, map(_weights, runs), strict=True)
    ]
    drawn = [] if chosen.limit is None else [chosen.limit, chosen.seed]
    return hashlib.sha256(repr([stamps, chosen.data, *drawn]).encode()).hexdigest()[:16]


def _known(runs: Sequence[Path]) -> dict[str, str]:
    index = run_folder(runs[0]) / "explorer" / "index.json"
    return json.loads(index.read_text()) if index.is_file() else {}


def find_prepared(runs: Sequence[Path], chosen: DataSelection) -> Path | None:
    """The folder that was prepared for these runs and pictures, where there is one."""
    found = _known(runs).get(_selection_key(runs, chosen))
    folder = run_folder(runs[0]) / "explorer" / (found or "")
    return folder if found and is_prepared(folder) else None


def find_all_prepared(run: Path, data: str, limit: int | None = None) -> list[Path]:
    """What was prepared for a run and a data set: for the run alone, then for the run with others beside it, the fewest first."""
    with_others: list[tuple[int, Path]] = []
    for file in (run_folder(run) / "explorer").glob("*/pack.json"):
        about = json.loads(file.read_text())
        chosen = DataSelection(about["data"], about.get("limit"), about.get("seed", 0))
        runs = [(file.parent / network["run"]).resolve() for network in about["networks"] if network["run"]]
        if runs and chosen.data == absolute_spec(data) and limit in (None, chosen.limit):
            own = find_prepared(runs, chosen)
            with_others += [(len(runs), file.parent)] if own and own.name == file.parent.name else []
    first = find_prepared([run], select_data(run, data, limit))
    return list(dict.fromkeys([*([first] if first else []), *(folder for _, folder in sorted(with_others))]))


def record_prepared(runs: Sequence[Path], chosen: DataSelection, pack: Pack) -> None:
    """Remember what was prepared."""
    told = json.dumps({**_known(runs), _selection_key(runs, chosen): pack.path.name}, indent=1)
    (run_folder(runs[0]) / "explorer" / "index.json").write_text(told + "\n")


@dataclass(frozen=True)
class RunningServer:
    """A server that runs.

    Attributes:
        address: of the page, with the key in it.
        close: ends it.
        wait: until it ends.
        frames: whether a notebook may show it inline.
    """

    address: str
    close: Callable[[], None]
    wait: Callable[[], None]
    frames: bool = False

    def _repr_html_(self) -> str:
        """The page itself in a notebook of this machine; elsewhere its address, which holds the key."""
        link = f'<p><a href="{escape(self.address)}" target="_blank" rel="noreferrer">the explorer in a page of its own</a></p>'
        if not self.frames:
            return link
        name = f"selfsight-{secrets.token_hex(4)}"
        rest = json.dumps(self.address.removeprefix("http://127.0.0.1"))
        script = FRAME.replace("NAME", json.dumps(name)).replace("REST", rest)
        return f'<div id="{name}"></div><script>{script}</script>{link}'


def serve(
    folder: Path, *, port: int = 8787, hosts: Iterable[str] = (), browser: bool = False, work: bool = True, frames: bool | None = None
) -> RunningServer:
    """Serve a prepared data set on this machine.

    Args:
        folder: of the prepared data set.
        port: the first that is tried.
        hosts: names under which this machine may be asked, beside its own.
        browser: open the page.
        work: allow jobs.
        frames: pages of this machine may show it in a frame; by default in a notebook alone.

    Raises:
        EnvironmentFault: no port is free.
    """
    import uvicorn  # here, for whoever imports the Python face shall not wait for it

    from selfsight.explorer.server.app import make_server
    from selfsight.explorer.server.guard import Guard

    shelf = ExplorerStore.of(folder)
    listener, token = _listener(port), secrets.token_urlsafe(24)
    number = listener.getsockname()[1]
    jobs = Jobs(folder.parent / f"{folder.name}.jobs", [*WORKER, str(folder)], stamp(folder)) if work else None
    frames = "ipykernel" in sys.modules if frames is None else frames
    guard = Guard(make_server(shelf, jobs), token=token, port=number, hosts=hosts, frames=frames)
    quiet = {"log_level": "warning", "access_log": False, "server_header": False, "date_header": False, "lifespan": "off"}
    server = uvicorn.Server(uvicorn.Config(guard, **quiet))  # pyright: ignore[reportArgumentType]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="explorer", daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{number}/enter?token={token}"
    if browser:
        webbrowser.open(address)

    return RunningServer(address, lambda: _end(server, thread, jobs, shelf, listener), thread.join, frames)


def _end(server: Any, thread: threading.Thread, jobs: Jobs | None, shelf: ExplorerStore, listener: socket.socket) -> None:
    server.should_exit = True
    thread.join(timeout=5)
    if jobs is not None:
        jobs.close()
    shelf.edits.close()
    listener.close()


def _listener(port: int) -> socket.socket:
    """A free port of this machine, the first from the one asked for."""
    for number in [port, *range(port + 1, port + PORTS)] if port else [0]:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named, else answers wait for acknowledgements
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", number))
            listener.listen(128)
        except OSError:
            listener.close()
            continue
        return listener
    raise EnvironmentFault(f"Ports {port} to {port + PORTS - 1} are taken.", "Name another: --port 9000.")
