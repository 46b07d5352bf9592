"""The explorer's server: reads of a ``ExplorerStore``, jobs, edits, exports, and the page's own files. Torch-free."""

import hashlib
import io
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from PIL import Image, UnidentifiedImageError
from starlette.concurrency import run_in_threadpool

from selfsight.core.errors import DataError, SelfsightError, UsageError
from selfsight.core.names import look_up
from selfsight.explorer.server.exports import exported
from selfsight.explorer.server.filters import filter_rows
from selfsight.explorer.server.job_table import JOBS
from selfsight.explorer.server.jobs import Jobs, QueueFull
from selfsight.explorer.server.pack import CLUSTER
from selfsight.explorer.server.store import ExplorerStore

__all__ = ["STATIC", "make_server"]

STATIC = Path(__file__).parent.parent / "static"
"""Work, and what has to be said of it."""
FORMATS = ("JPEG", "PNG", "WEBP")
PIXELS, UPLOAD_SIDE = 50_000_000, 512
MOST = 2000
"""Rows of an answer."""
TYPES = {".csv": "text/csv; charset=utf-8", ".txt": "text/plain; charset=utf-8", ".parquet": "application/vnd.apache.parquet"}


def make_server(shelf: ExplorerStore, jobs: Jobs | None = None, static: Path = STATIC) -> FastAPI:
    """The application, unguarded (see ``guard.Guard``).

    Args:
        shelf: what is shown.
        jobs: who does heavy work; without it nothing is worked out.
        static: the page's files.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    _reads(app, shelf)
    _likeness(app, shelf)
    _selections(app, shelf)
    _edits(app, shelf)
    if jobs is not None:
        _works(app, shelf, jobs)
        _searches(app, shelf, jobs)
    _pages(app, static)

    @app.exception_handler(SelfsightError)
    async def refused(_: Request, problem: Exception) -> JSONResponse:
        assert isinstance(problem, SelfsightError)
        return JSONResponse({"cause": problem.cause, "remedy": problem.remedy}, 404 if isinstance(problem, DataError) else 422)

    return app


async def _body(request: Request) -> dict[str, Any]:
    try:
        read = json.loads(await request.body() or b"{}")
    except (ValueError, RecursionError):
        raise UsageError("The body is no JSON.", "Send an object.") from None
    if not isinstance(read, dict):
        raise UsageError("The body is no object.", "Send an object.")
    return read


def _answer(read: Callable[[], Any]) -> Callable[[], Awaitable[JSONResponse]]:
    async def answer() -> JSONResponse:
        return JSONResponse(await run_in_threadpool(read))

    return answer


def _number(value: Any, name: str, low: int = 0, high: int = 2**53) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UsageError(f"{name} must be a whole number from {low} to {high}.", "Give one.")
    return value


def _reads(app: FastAPI, shelf: ExplorerStore) -> None:
    """What is only looked at."""
    for name in ("about", "runs", "health"):
        app.get(f"/api/{name}")(_answer(getattr(shelf, name)))

    @app.get("/api/clusters")
    async def clusters(of: str = "") -> JSONResponse:
        return JSONResponse(await run_in_threadpool(shelf.clusters, of))

    @app.get("/api/item/{row}")
    async def item(row: int) -> JSONResponse:
        return JSONResponse(await run_in_threadpool(shelf.item, row))

    @app.get("/api/thumb/{row}")
    async def thumb(row: int) -> Response:
        picture = await run_in_threadpool(shelf.pack.thumb, row)
        return Response(picture, media_type="image/jpeg", headers={"cache-control": "private, max-age=86400"})

    @app.get("/api/map")
    async def places(name: str = "") -> Response:
        return Response(np.ascontiguousarray(shelf.pack.places(name), dtype="<f4").tobytes(), media_type="application/octet-stream")

    @app.get("/api/column/{name}")
    async def column(name: str) -> Response:
        return await run_in_threadpool(_coded, shelf, name)


def _likeness(app: FastAPI, shelf: ExplorerStore) -> None:
    """What networks say: neighbours, units, what is worth a label, two networks beside each other."""

    @app.get("/api/neighbours/{row}")
    async def neighbours(row: int, network: str = "", layer: str = "", count: int = 24) -> JSONResponse:
        return JSONResponse(await run_in_threadpool(shelf.neighbours, row, network, layer, _number(count, "count", 1, 200)))

    @app.get("/api/beside")
    async def mutual_knn(left: str = "", right: str = "", left_layer: str = "", right_layer: str = "") -> JSONResponse:
        return JSONResponse(await run_in_threadpool(shelf.mutual_knn, left, right, (left_layer, right_layer)))

    @app.get("/api/worth")
    async def label_selection(count: int = 30) -> JSONResponse:
        return JSONResponse(await run_in_threadpool(shelf.label_selection, _number(count, "count", 3, 300)))

    @app.get("/api/units")
    async def units(network: str = "", layer: str = "") -> JSONResponse:
        return JSONResponse(await run_in_threadpool(shelf.units, network, layer))

    @app.get("/api/unit/{number}")
    async def unit(number: int, network: str = "", layer: str = "") -> JSONResponse:
        return JSONResponse(await run_in_threadpool(shelf.unit, number, network, layer))


def _selections(app: FastAPI, shelf: ExplorerStore) -> None:
    """Which items, in which order, on the page or as a file."""

    @app.post("/api/select")
    async def select(request: Request) -> Response:
        asked = await _body(request)
        rows = await run_in_threadpool(_selected, shelf, asked)
        start, count = _number(asked.get("start", 0), "start"), _number(asked.get("count", MOST), "count", 0, MOST)
        return JSONResponse({"total": len(rows), "rows": rows[start : start + count].tolist()})

    @app.post("/api/export/{kind}")
    async def export(kind: str, request: Request) -> Response:
        asked = await _body(request)
        content, name = await run_in_threadpool(lambda: exported(shelf, _selected(shelf, asked), kind))
        kept = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(content, media_type=TYPES[Path(name).suffix], headers=kept)


def _selected(shelf: ExplorerStore, asked: dict[str, Any]) -> np.ndarray:
    """The rows of a selection: conditions, a lasso, an order; or rows by number."""
    given = asked.get("rows")
    if given is not None:
        if not isinstance(given, list):
            raise UsageError("Rows are whole numbers.", "Give a list of them.")
        return np.array([_number(row, "A row", 0, len(shelf.pack) - 1) for row in given], dtype=np.int64)
    conditions, lasso, sort = asked.get("conditions", []), asked.get("lasso", []), asked.get("sort", "")
    if not isinstance(conditions, list) or not all(isinstance(one, dict) for one in conditions) or not isinstance(sort, str):
        raise UsageError("Conditions are a list of objects, and the order is the name of a column.", "See the documentation of select.")
    if not isinstance(lasso, list):
        raise UsageError("A lasso is a list of corners.", "Give each as an x and a y.")
    order = {"sort": sort, "descending": bool(asked.get("descending"))}
    return filter_rows(shelf.pack, conditions, lasso=lasso, on=str(asked.get("map", "")), extra=shelf.edited_columns(), **order)


def _coded(shelf: ExplorerStore, name: str) -> Response:
    """A column as float32 numbers, or as codes of texts whose names stand in a header."""
    extra = shelf.edited_columns()
    values: np.ndarray = extra[name] if name in extra else shelf.pack.column(name)
    headers = {}
    if values.dtype == object:
        kinds = sorted(set(values))
        codes = {kind: code for code, kind in enumerate(kinds)}
        headers["x-values"] = json.dumps(kinds[:200], ensure_ascii=True)
        values = np.fromiter((codes[one] for one in values), np.float32, len(values))
    return Response(np.ascontiguousarray(values, dtype="<f4").tobytes(), media_type="application/octet-stream", headers=headers)


def _edits(app: FastAPI, shelf: ExplorerStore) -> None:
    """What a user says."""

    @app.get("/api/edits")
    async def history() -> JSONResponse:
        return JSONResponse(await run_in_threadpool(shelf.edits.history))

    @app.post("/api/edits/{kind}")
    async def progress(kind: str, request: Request) -> JSONResponse:
        asked = await _body(request)
        subjects, value = asked.get("subjects"), asked.get("value")
        if not isinstance(subjects, list) or not isinstance(value, str):
            raise UsageError("An edit is of some subjects and says a text.", "Send subjects, a list of numbers, and value, a text.")
        await run_in_threadpool(shelf.check_edit, kind, subjects, value)
        return JSONResponse({"edit": await run_in_threadpool(shelf.edits.set, kind, subjects, value)})

    @app.post("/api/undo")
    async def undo() -> JSONResponse:
        return JSONResponse({"kind": await run_in_threadpool(shelf.edits.undo)})

    @app.post("/api/redo")
    async def redo() -> JSONResponse:
        return JSONResponse({"kind": await run_in_threadpool(shelf.edits.redo)})


def _ask(jobs: Jobs, kind: str, given: dict[str, Any], also: str = "") -> JSONResponse:
    try:
        return JSONResponse(jobs.submit(kind, given, also), 202)
    except QueueFull:
        return JSONResponse({"cause": "Too much is being worked out.", "remedy": "Wait a little."}, 429, {"retry-after": "5"})


def _works(app: FastAPI, shelf: ExplorerStore, jobs: Jobs) -> None:
    """What takes a network."""

    @app.post("/api/jobs/{kind}")
    async def begin(kind: str, request: Request) -> JSONResponse:
        asked = await _body(request)
        needs = JOBS.resolve(kind[:40]).needs
        if missing := [need for need in needs if not set(need.split(" or ")) & set(asked)]:
            raise UsageError(f"The job {kind} needs a {missing[0]}.", "Give a row, a unit, a class or a cluster.")
        given = await run_in_threadpool(_given, shelf, asked)
        return _ask(jobs, kind, given, shelf.networks[given["network"]].probe(given))

    @app.get("/api/jobs/{key}")
    async def look(key: str) -> JSONResponse:
        return _or_nothing(jobs.status(key))

    @app.delete("/api/jobs/{key}")
    async def cancel(key: str) -> JSONResponse:
        return _or_nothing(jobs.cancel(key))

    @app.get("/api/jobs/{key}/files/{name}")
    async def file(key: str, name: str) -> Response:
        found = jobs.file(key, name)
        if found is None or found.suffix != ".png" or not found.is_file():
            return JSONResponse({"cause": "There is no such file.", "remedy": ""}, 404)
        return FileResponse(found, media_type="image/png")


def _searches(app: FastAPI, shelf: ExplorerStore, jobs: Jobs) -> None:
    """Pictures like one that is not of the data set, or like a part of one."""

    @app.get("/api/jobs/{key}/neighbours")
    async def alike(key: str, count: int = 24) -> JSONResponse:
        found = jobs.status(key)
        if found is None or found["state"] != "done" or "vector" not in found["found"]:
            return JSONResponse({"cause": "This is not worked out.", "remedy": ""}, 404)
        told = found["found"]
        given = (np.array(told["vector"], dtype=np.float32), told["network"], told["layer"], _number(count, "count", 1, 200))
        return JSONResponse(await run_in_threadpool(shelf.neighbours, *given))

    @app.post("/api/search")
    async def search(request: Request, network: str = "", layer: str = "") -> JSONResponse:
        name = await run_in_threadpool(_kept, await request.body(), jobs.folder / "uploads")
        if name is None:
            return JSONResponse({"cause": "This is no JPEG, PNG or WebP picture, or a huge one.", "remedy": "Send another."}, 415)
        return _ask(jobs, "embed", _given(shelf, {"upload": name, "network": network, "layer": layer}))


def _or_nothing(found: dict[str, Any] | None) -> JSONResponse:
    return JSONResponse({"cause": "There is no such work.", "remedy": ""}, 404) if found is None else JSONResponse(found)


def _given(shelf: ExplorerStore, asked: dict[str, Any]) -> dict[str, Any]:
    """What work is asked about, checked: a row, a unit, a box, a method by its name."""
    found: dict[str, Any] = {"network": str(asked.get("network", "") or next(iter(shelf.networks)))}
    if found["network"] not in shelf.networks:
        raise UsageError(f"There is no network {found['network'][:40]!r}.", f"There are: {', '.join(shelf.networks)}.")
    found["layer"] = str(asked.get("layer", ""))
    if found["layer"] and found["layer"] not in shelf.networks[found["network"]].bank.layers:
        raise UsageError(f"There is no layer {found['layer'][:40]!r}.", "Layers stand in /api/about.")
    if "row" in asked:
        found["row"] = _number(asked["row"], "row", 0, len(shelf.pack) - 1)
    if "unit" in asked:
        units = shelf.networks[found["network"]].bank.pooled(found["layer"] or None).shape[1]
        found["unit"] = _number(asked["unit"], "unit", 0, units - 1)
    if "class" in asked:
        classes = shelf.networks[found["network"]].classes
        if not classes:
            raise UsageError(
                "No linear probe was fitted.", "Measure the run: selfsight measure RUN --train DATA --test DATA --probes linear"
            )
        found["class"] = _number(asked["class"], "class", 0, len(classes) - 1)
    if "cluster" in asked:
        found["of"] = look_up("clustering", str(asked.get("of") or CLUSTER), shelf.pack.clusterings)
        found["cluster"] = _number(asked["cluster"], "cluster", 0, len(shelf.pack.clusterings[found["of"]]) - 1)
        found["parts"] = next((one["parts"] for one in shelf.clusters(found["of"]) if one["number"] == found["cluster"]), [])
    if "box" in asked:
        box = asked["box"]
        if not isinstance(box, list) or len(box) != 4 or not all(isinstance(one, int | float) and 0 <= one <= 1 for one in box):
            raise UsageError("A box is four fractions: left, top, right, bottom.", "Give them from 0 to 1.")
        found["box"] = [round(float(one), 4) for one in box]
    for name in ("method", "upload"):
        if name in asked:
            text = str(asked[name])
            if not text.replace("_", "").replace(".", "").isalnum() or len(text) > 64:
                raise UsageError(f"{text[:40]!r} is no name.", "Give one of letters and digits.")
            found[name] = text
    return found


def _kept(content: bytes, folder: Path) -> str | None:
    """Keep an uploaded picture, decoded and encoded anew, by its digest; ``None`` where it is none."""
    try:
        picture = Image.open(io.BytesIO(content), formats=FORMATS)
        if picture.width * picture.height > PIXELS:
            return None
        picture.draft("RGB", (UPLOAD_SIDE, UPLOAD_SIDE))
        small = picture.convert("RGB")
        small.thumbnail((UPLOAD_SIDE, UPLOAD_SIDE))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    name = f"{hashlib.sha256(content).hexdigest()[:32]}.png"
    folder.mkdir(parents=True, exist_ok=True)
    small.save(folder / name, "PNG")
    return name


def _pages(app: FastAPI, static: Path) -> None:
    """The page's own files; every other path is the page, which reads its view from the address."""
    files = {path.relative_to(static).as_posix(): path for path in static.rglob("*") if path.is_file()} if static.is_dir() else {}

    @app.get("/{path:path}")
    async def page(path: str) -> Response:
        if path.startswith("api/"):
            return JSONResponse({"cause": "There is nothing here.", "remedy": ""}, 404)
        if path in files:
            return FileResponse(files[path], headers={"cache-control": "no-cache"})
        if "." in path.rpartition("/")[2] or "index.html" not in files:
            return JSONResponse({"cause": "There is no such page.", "remedy": ""}, 404)
        return FileResponse(files["index.html"], headers={"cache-control": "no-cache"})
