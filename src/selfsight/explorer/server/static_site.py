"""Export of the explorer as a folder that opens from a file or any web server: the same views, read-only. Torch-free.

A page opened from a file can load scripts and images next to it, and nothing else. Therefore data are scripts, each of which adds one part
to ``selfsight``. What the server would compute on request (a selection, a lasso) is computed by the page.
"""

import base64
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from selfsight.core.cache import AtomicFolder
from selfsight.core.errors import UsageError
from selfsight.core.files import inside, parsing, read_json
from selfsight.core.json_text import json_text
from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.explorer.server.app import STATIC
from selfsight.explorer.server.jobs import read_result
from selfsight.explorer.server.mutual_knn import nearest_rows
from selfsight.explorer.server.pack import jobs_folder, stamp
from selfsight.explorer.server.store import ExplorerStore

__all__ = ["export_static_site"]

MOST, CHUNK, NEAR = 50_000, 500, 24
"""Maximum number of images; images per file of neighbours, and neighbours per image."""
PAIRS = 60_000
"""Up to this number of images times layers, neighbours and units of every layer are written; above it, those of the outputs only."""
SCRIPTS = '<script defer src="data/base.js"></script>\n    <script defer src="app.js"></script>'
"""Replaces the module script, which a page opened from a file cannot load."""


def export_static_site(store: ExplorerStore, folder: Path, *, static: Path = STATIC, progress: ProgressCallback = no_progress) -> Path:
    """Write the explorer of a prepared data set as a folder; returns the page to open.

    It contains thumbnails, the table, maps, clusters, neighbours, units, scores, and results of earlier jobs (attributions, inversions, …);
    tags, notes and names as they are now. An earlier folder of this kind is replaced.

    Args:
        store: the data set.
        folder: output folder; it must not exist, be empty, or contain an earlier export.
        static: folder of the page's files.
        progress: called with a line per step.

    Raises:
        UsageError: the folder contains something else, or there are too many images.
        DataError: a stored result of a job is damaged, or names a file outside of its folder.
    """
    if len(store.pack) > MOST:
        raise UsageError(f"{len(store.pack):,} images are too many for a folder.", f"Use at most {MOST:,}: --limit {MOST}")
    if not _replaceable(folder):
        raise UsageError(f"{folder} exists and is not an exported page.", "Use a folder that does not exist yet.")
    with AtomicFolder(folder) as writing:
        _write(store, writing.partial, static, progress)
        writing.commit()
    return folder / "index.html"


def _replaceable(folder: Path) -> bool:
    """Whether a folder does not exist, is empty, or contains an earlier export and nothing else; a symbolic link is not followed."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        return False
    names = {entry.name for entry in folder.iterdir()} if folder.exists() else set[str]()
    whole = (folder / "data" / "base.js").is_file() and (folder / "index.html").is_file()
    return not names or (whole and names <= {"index.html", "app.css", "app.js", "data", "thumbs", "work"})


def _write(store: ExplorerStore, folder: Path, static: Path, progress: ProgressCallback) -> None:
    page = re.sub(r'<script type="module"[^>]*></script>', SCRIPTS, (static / "index.html").read_text(encoding="utf-8"))
    (folder / "index.html").write_text(page.replace(' crossorigin href="/', ' href="'), encoding="utf-8")
    shutil.copyfile(static / "app.css", folder / "app.css")
    (folder / "app.js").write_bytes(b"(() => {\n" + (static / "app.js").read_bytes() + b"\n})();\n")
    for name in ("data", "thumbs", "work"):
        (folder / name).mkdir()
    progress(f"{len(store.pack):,} thumbnails")
    for row in range(len(store.pack)):
        (folder / "thumbs" / f"{row}.jpg").write_bytes(store.pack.thumb(row))
    pairs = _pairs(store)
    base = {
        "about": store.about() | {"data": _last(store.pack.about["data"])},
        "answers": _answers(store),
        "near": pairs,
        "units": pairs,
        "chunk": CHUNK,
        "jobs": _work(store, folder / "work"),
    }
    (folder / "data" / "base.js").write_text(f"window.selfsight = {{ parts: {{}}, base: {_text(base)} }};\n", encoding="utf-8")
    for name, part in _parts(store, pairs, progress):
        (folder / "data" / f"{name}.js").write_text(f"selfsight.parts[{json_text(name)}] = {_text(part)};\n", encoding="utf-8")


def _text(value: Any) -> str:
    """ASCII-only JSON."""
    return json_text(value, separators=(",", ":"))


def _last(text: str) -> str:
    """The last part of a path, so that local paths are not published; other names of data are unchanged."""
    path, mark, options = text.partition("?")
    return Path(path).name + mark + options if path.startswith(("/", ".", "~")) or "\\" in path else text


def _shared(run: dict[str, Any]) -> dict[str, Any]:
    """A run for publication: paths are reduced to their last parts."""
    settings = {name: _last(value) if isinstance(value, str) else value for name, value in run["settings"].items()}
    measures = [{name: _last(value) if isinstance(value, str) else value for name, value in one.items()} for one in run["measures"]]
    return run | {"settings": settings, "measures": measures}


def _pairs(store: ExplorerStore) -> list[tuple[str, str]]:
    """Networks and layers whose neighbours and units are written."""
    pairs = [(name, layer) for name, network in store.networks.items() for layer in network.bank.layers]
    return pairs if len(pairs) * len(store.pack) <= PAIRS else [(name, "output") for name in store.networks]


def _answers(store: ExplorerStore) -> dict[str, Any]:
    """Responses of the server, by path without ``/api/``."""
    runs = [_shared(run) for run in store.runs()]
    answers: dict[str, Any] = {"runs": runs, "health": store.health(), "worth": store.label_selection(36), "clusters": []}
    answers |= {f"clusters?of={of}": store.clusters(of) for of in store.pack.clusterings}
    if len(store.networks) > 1:
        answers["beside"] = store.mutual_knn()
    return answers


def _parts(store: ExplorerStore, pairs: list[tuple[str, str]], progress: ProgressCallback) -> Iterator[tuple[str, Any]]:
    """The larger parts of the data, one per file."""
    edits = store.edited_columns()
    columns = {name: store.column(name) for name in store.pack.columns}
    notes = store.edits.values("note")
    yield (
        "items",
        {
            "names": [str(name) for name in store.pack.names.to_pylist()],
            "columns": {name: _plain(values) for name, values in (columns | edits).items()},
            "tag": edits["tag"].tolist(),
            "note": [notes.get(row, "") for row in range(len(store.pack))],
        },
    )
    for index, name in enumerate(store.pack.maps):
        yield f"map-{index}", base64.b64encode(np.ascontiguousarray(store.pack.places(name), dtype="<f4").tobytes()).decode()
    for index, (network, layer) in enumerate(pairs):
        progress(f"neighbours and units of {layer} of {network}")
        for start, rows, alike in nearest_rows(store.networks[network].bank.pooled(layer), NEAR, CHUNK):
            neighbours = [
                list(zip(*pair, strict=True)) for pair in zip(rows.tolist(), alike.astype(np.float64).round(4).tolist(), strict=True)
            ]
            yield f"near-{index}-{start // CHUNK}", neighbours
        listed = store.units(network, layer)
        yield f"units-{index}", {"list": listed, "units": [store.unit(one["unit"], network, layer) for one in listed]}


def _plain(values: np.ndarray) -> list[Any]:
    if values.dtype == object:
        return [str(value) for value in values]
    numbers: Float[np.ndarray, " item"] = values.astype(np.float64)
    return [float(f"{value:.6g}") if known else None for value, known in zip(numbers.tolist(), np.isfinite(numbers).tolist(), strict=True)]


def _work(store: ExplorerStore, folder: Path) -> dict[str, Any]:
    """Copy results of jobs since the data were prepared; returns them by request."""
    jobs, results = jobs_folder(store.pack.path), dict[str, Any]()
    for file in sorted(jobs.glob("*/asked.json")):
        name = file.parent.name
        request, result = read_json(inside(jobs, f"{name}/asked.json")), read_result(jobs, name)
        with parsing(file, f"Delete {file.parent}."):
            kind, given = request["kind"], dict(request["given"])
            network = store.networks.get(given["network"])
            of = [stamp(store.pack.path), network.probe(given) if network else ""]
            if result is None or request.get("of") != of or kind in ("embed", "picture"):
                continue  # of an earlier preparation or probe, or not shown
            key = f"{kind} {json_text(given, sort_keys=True, separators=(',', ':'), ensure_ascii=False)}"
            files = [str(one) for one in result.get("files", [])]
        (folder / name).mkdir()
        for one in files:
            target = inside(folder / name, one)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(inside(jobs / name, one), target)
        results[key] = {"job": name, "kind": kind, "found": result}
    return results
