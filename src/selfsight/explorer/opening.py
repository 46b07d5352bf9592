"""Opening the explorer: what was prepared before is found without a network; then the page is served on this machine alone. Torch-free."""

import hashlib
import json
import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfsight.core.errors import EnvironmentFault
from selfsight.explorer.jobs import Jobs
from selfsight.explorer.pack import Pack
from selfsight.explorer.source import Shelf

__all__ = ["Opened", "noted", "placed", "prepared", "serve"]

PORTS = 20
"""How many are tried, from the one that was asked for."""
WORKER = ("-m", "selfsight.worker")


def placed(data: str) -> str:
    """A data set's name that means the same from every folder: a path from the root, where it is one."""
    return str(Path(data).resolve()) if Path(data).exists() else data


def _mark(runs: Sequence[Path], data: str) -> str:
    """Changes with the runs' weights and the data's name."""
    data = placed(data)
    weights = [path / "export" / "model.safetensors" for path in runs]
    stamps = [
        (path.name, file.stat().st_mtime_ns, file.stat().st_size) if file.is_file() else path.name
        for path, file in zip(runs, weights, strict=True)
    ]
    return hashlib.sha256(repr([stamps, data]).encode()).hexdigest()[:16]


def prepared(runs: Sequence[Path], data: str) -> Path | None:
    """The folder that was prepared for these runs and this data set, where there is one."""
    folder = runs[0] / "explorer"
    index = folder / "index.json"
    known = json.loads(index.read_text()) if index.is_file() else {}
    found = known.get(_mark(runs, data))
    return folder / found if found and (folder / found / "pack.json").is_file() else None


def noted(runs: Sequence[Path], data: str, pack: Pack) -> None:
    """Remember what was prepared."""
    index = runs[0] / "explorer" / "index.json"
    known = json.loads(index.read_text()) if index.is_file() else {}
    index.write_text(json.dumps({**known, _mark(runs, data): pack.path.name}, indent=1) + "\n")


@dataclass(frozen=True)
class Opened:
    """A server that runs.

    Attributes:
        address: of the page, with the key in it.
        close: ends it.
        wait: until it ends.
    """

    address: str
    close: Callable[[], None]
    wait: Callable[[], None]


def serve(folder: Path, *, port: int = 8787, hosts: Iterable[str] = (), browser: bool = False, work: bool = True) -> Opened:
    """Serve a prepared data set on this machine.

    Args:
        folder: of the prepared data set.
        port: the first that is tried.
        hosts: names under which this machine may be asked, beside its own.
        browser: open the page.
        work: allow jobs.

    Raises:
        EnvironmentFault: no port is free.
    """
    import uvicorn  # here, for whoever imports the Python face shall not wait for it

    from selfsight.explorer.guard import Guard
    from selfsight.explorer.server import make_server

    shelf = Shelf.of(folder)
    listener, token = _listener(port), secrets.token_urlsafe(24)
    number = listener.getsockname()[1]
    jobs = Jobs(folder.parent / f"{folder.name}.jobs", [*WORKER, str(folder)], folder.name) if work else None
    guard = Guard(make_server(shelf, jobs), token=token, port=number, hosts=hosts)
    quiet = {"log_level": "warning", "access_log": False, "server_header": False, "date_header": False, "lifespan": "off"}
    server = uvicorn.Server(uvicorn.Config(guard, **quiet))  # pyright: ignore[reportArgumentType]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="explorer", daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{number}/enter?token={token}"
    if browser:
        webbrowser.open(address)

    return Opened(address, lambda: _end(server, thread, jobs, shelf, listener), thread.join)


def _end(server: Any, thread: threading.Thread, jobs: Jobs | None, shelf: Shelf, listener: socket.socket) -> None:
    server.should_exit = True
    thread.join(timeout=5)
    if jobs is not None:
        jobs.close()
    shelf.edits.close()
    listener.close()


def _listener(port: int) -> socket.socket:
    """A free port of this machine, the first from the one asked for."""
    for number in [port, *range(port + 1, port + PORTS)] if port else [0]:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", number))
            listener.listen(128)
        except OSError:
            listener.close()
            continue
        return listener
    raise EnvironmentFault(f"Ports {port} to {port + PORTS - 1} are taken.", "Name another: --port 9000.")
