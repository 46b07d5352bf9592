"""The explorer as a folder that opens from a file or any web server: the same views, read-only. Torch-free.

A page that was opened from a file may load scripts and pictures beside it, and nothing else: so data are scripts, each of which puts one
part into ``selfsight``. What a server would work out when asked (a selection, a lasso) the page works out itself.
"""

import base64
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from selfsight.core.errors import UsageError
from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.explorer.server.app import STATIC
from selfsight.explorer.server.mutual_knn import nearest_rows
from selfsight.explorer.server.pack import stamp
from selfsight.explorer.server.store import ExplorerStore

__all__ = ["export_static_site"]

MOST, CHUNK, NEAR = 50_000, 500, 24
"""Pictures that a folder may hold; pictures in a file of neighbours, and neighbours of each."""
PAIRS = 60_000
"""Pictures times layers up to which neighbours and units of every layer are written; above, those of outputs alone."""
SCRIPTS = '<script defer src="data/base.js"></script>\n    <script defer src="app.js"></script>'
"""In place of the module, which a page from a file may not load."""


def export_static_site(shelf: ExplorerStore, folder: Path, *, static: Path = STATIC, progress: ProgressCallback = no_progress) -> Path:
    """Write the explorer of a prepared data set as a folder; returns the page that is to be opened.

    Small pictures, the table, maps, clusters, neighbours, units, scores, and the work that was done in the explorer before (attributions,
    inversions, …) are in it; tags, notes and names are shown as they are now. An earlier folder of this kind is replaced.

    Args:
        shelf: what is shown.
        folder: where; it must not be there, be empty, or hold an earlier one.
        static: the page's files.
        progress: called with what is being done.

    Raises:
        UsageError: the folder holds something else, or there are too many pictures.
    """
    if len(shelf.pack) > MOST:
        raise UsageError(f"{len(shelf.pack):,} pictures are too many for a folder.", f"Take at most {MOST:,}: --limit {MOST}")
    ours = (folder / "data" / "base.js").is_file() and (folder / "index.html").is_file()
    if folder.exists() and not ours and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} holds something else.", "Name a folder that is not there yet.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".partial-"))
    try:
        _write(shelf, partial, static, progress)
        partial.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder / "index.html"


def _write(shelf: ExplorerStore, folder: Path, static: Path, progress: ProgressCallback) -> None:
    page = re.sub(r'<script type="module"[^>]*></script>', SCRIPTS, (static / "index.html").read_text(encoding="utf-8"))
    (folder / "index.html").write_text(page.replace(' crossorigin href="/', ' href="'), encoding="utf-8")
    shutil.copyfile(static / "app.css", folder / "app.css")
    (folder / "app.js").write_bytes(b"(() => {\n" + (static / "app.js").read_bytes() + b"\n})();\n")
    for name in ("data", "thumbs", "work"):
        (folder / name).mkdir()
    progress(f"{len(shelf.pack):,} small pictures")
    for row in range(len(shelf.pack)):
        (folder / "thumbs" / f"{row}.jpg").write_bytes(shelf.pack.thumb(row))
    pairs = _pairs(shelf)
    base = {
        "about": shelf.about() | {"data": _last(shelf.pack.about["data"])},
        "answers": _answers(shelf),
        "near": pairs,
        "units": pairs,
        "chunk": CHUNK,
        "jobs": _work(shelf, folder / "work"),
    }
    (folder / "data" / "base.js").write_text(f"window.selfsight = {{ parts: {{}}, base: {_text(base)} }};\n", encoding="utf-8")
    for name, part in _parts(shelf, pairs, progress):
        (folder / "data" / f"{name}.js").write_text(f"selfsight.parts[{json.dumps(name)}] = {_text(part)};\n", encoding="utf-8")


def _text(value: Any) -> str:
    """JSON in letters that every encoding has."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _last(text: str) -> str:
    """Of a path the last part: where pictures lie on this machine is nobody's business; other names of data stay as they are."""
    path, mark, options = text.partition("?")
    return Path(path).name + mark + options if path.startswith(("/", ".", "~")) or "\\" in path else text


def _shared(run: dict[str, Any]) -> dict[str, Any]:
    """A run as it is told to others: paths by their last parts."""
    settings = {name: _last(value) if isinstance(value, str) else value for name, value in run["settings"].items()}
    measures = [{name: _last(value) if isinstance(value, str) else value for name, value in one.items()} for one in run["measures"]]
    return run | {"settings": settings, "measures": measures}


def _pairs(shelf: ExplorerStore) -> list[tuple[str, str]]:
    """Networks and layers of which neighbours and units are written."""
    every = [(name, layer) for name, one in shelf.networks.items() for layer in one.bank.layers]
    return every if len(every) * len(shelf.pack) <= PAIRS else [(name, "output") for name in shelf.networks]


def _answers(shelf: ExplorerStore) -> dict[str, Any]:
    """What the server would answer, by its path without ``/api/``."""
    runs = [_shared(run) for run in shelf.runs()]
    found: dict[str, Any] = {"runs": runs, "health": shelf.health(), "worth": shelf.label_selection(36), "clusters": []}
    found |= {f"clusters?of={of}": shelf.clusters(of) for of in shelf.pack.clusterings}
    if len(shelf.networks) > 1:
        found["beside"] = shelf.mutual_knn()
    return found


def _parts(shelf: ExplorerStore, pairs: list[tuple[str, str]], progress: ProgressCallback) -> Iterator[tuple[str, Any]]:
    """The larger parts of the data, each a file."""
    said = shelf.edited_columns()
    columns = {name: shelf.column(name) for name in shelf.pack.columns}
    notes = shelf.edits.values("note")
    yield (
        "items",
        {
            "names": [str(name) for name in shelf.pack.names.to_pylist()],
            "columns": {name: _plain(values) for name, values in (columns | said).items()},
            "tag": said["tag"].tolist(),
            "note": [notes.get(row, "") for row in range(len(shelf.pack))],
        },
    )
    for place, name in enumerate(shelf.pack.maps):
        yield f"map-{place}", base64.b64encode(np.ascontiguousarray(shelf.pack.places(name), dtype="<f4").tobytes()).decode()
    for place, (network, layer) in enumerate(pairs):
        progress(f"neighbours and units of {layer} of {network}")
        for start, rows, alike in nearest_rows(shelf.networks[network].bank.pooled(layer), NEAR, CHUNK):
            told = [list(zip(*pair, strict=True)) for pair in zip(rows.tolist(), alike.astype(np.float64).round(4).tolist(), strict=True)]
            yield f"near-{place}-{start // CHUNK}", told
        listed = shelf.units(network, layer)
        yield f"units-{place}", {"list": listed, "units": [shelf.unit(one["unit"], network, layer) for one in listed]}


def _plain(values: np.ndarray) -> list[Any]:
    if values.dtype == object:
        return [str(value) for value in values]
    kept: Float[np.ndarray, " item"] = values.astype(np.float64)
    return [float(f"{value:.6g}") if known else None for value, known in zip(kept.tolist(), np.isfinite(kept).tolist(), strict=True)]


def _work(shelf: ExplorerStore, folder: Path) -> dict[str, Any]:
    """Copy what was worked out in the explorer since the data were prepared; where each is found, by what was asked."""
    found: dict[str, Any] = {}
    for file in sorted((shelf.pack.path.parent / f"{shelf.pack.path.name}.jobs").glob("*/asked.json")):
        asked, done = json.loads(file.read_text()), file.with_name("found.json")
        network = shelf.networks.get(asked["given"]["network"])
        of = [stamp(shelf.pack.path), network.probe(asked["given"]) if network else ""]
        if not done.is_file() or asked.get("of") != of or asked["kind"] in ("embed", "picture"):
            continue  # of an earlier preparation or probe, or of no view
        told = json.loads(done.read_text())
        (folder / file.parent.name).mkdir()
        for name in told.get("files", []):
            shutil.copyfile(file.parent / name, folder / file.parent.name / name)
        mark = f"{asked['kind']} {json.dumps(asked['given'], sort_keys=True, separators=(',', ':'), ensure_ascii=False)}"
        found[mark] = {"job": file.parent.name, "kind": asked["kind"], "found": told}
    return found
