"""The HTTP API of the explorer: reads of an ``ExplorerStore``, jobs, edits, exports, and static files. Torch-free."""

import io
import json
from asyncio import get_running_loop
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from PIL import Image
from starlette.concurrency import run_in_threadpool

from selfsight.core.cache import digest
from selfsight.core.errors import DataError, EnvironmentFault, SelfsightError, UsageError
from selfsight.core.json_text import json_text
from selfsight.core.names import look_up
from selfsight.data.decode import Unreadable, decode, header
from selfsight.explorer.server.edit_checks import check_edit
from selfsight.explorer.server.exports import exported
from selfsight.explorer.server.filters import filter_rows
from selfsight.explorer.server.job_table import JOBS
from selfsight.explorer.server.jobs import Jobs, QueueFull
from selfsight.explorer.server.pack import CLUSTER
from selfsight.explorer.server.store import ExplorerStore

__all__ = ["STATIC", "make_server"]

STATIC = Path(__file__).parent.parent / "static"
FORMATS = ("JPEG", "MPO", "PNG", "WEBP")
PIXELS, UPLOAD_SIDE = 50_000_000, 512
_DECODER = ThreadPoolExecutor(1, "uploads")
"""Decodes one upload at a time, in one thread, because the allocator keeps what was freed for each thread."""
KINDS, LETTERS, HEADER = 200, 80, 16_000
"""Texts of a column in the header of its response: maximum number, maximum length of each, and of the header."""
MOST = 2000
"""Maximum number of rows per response."""
TYPES = {".csv": "text/csv; charset=utf-8", ".txt": "text/plain; charset=utf-8", ".parquet": "application/vnd.apache.parquet"}


def make_server(store: ExplorerStore, jobs: Jobs | None = None, static: Path = STATIC) -> FastAPI:
    """The application, without access control (see ``guard.Guard``).

    Args:
        store: the data set.
        jobs: the job queue; None: no jobs.
        static: folder of the page's files.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    _reads(app, store)
    _feature_routes(app, store)
    _selections(app, store)
    _edits(app, store)
    if jobs is not None:
        _job_routes(app, store, jobs)
        _searches(app, store, jobs)
    _pages(app, static)

    @app.exception_handler(SelfsightError)
    async def refused(_: Request, problem: Exception) -> JSONResponse:
        assert isinstance(problem, SelfsightError)
        kinds = ((DataError, 404), (EnvironmentFault, 507))
        status = next((status for kind, status in kinds if isinstance(problem, kind)), 422)
        return JSONResponse({"cause": problem.cause, "remedy": problem.remedy}, status)

    @app.exception_handler(OSError)
    async def unreadable(_: Request, problem: Exception) -> JSONResponse:
        reason = getattr(problem, "strerror", None) or str(problem)
        return JSONResponse({"cause": f"A file cannot be read: {reason}.", "remedy": "Check the disk, or prepare again: --rebuild"}, 507)

    return app


async def _body(request: Request) -> dict[str, Any]:
    try:
        read = json.loads(await request.body() or b"{}")
    except (ValueError, RecursionError):
        raise UsageError("The body is not JSON.", "Send a JSON object.") from None
    if not isinstance(read, dict):
        raise UsageError("The body is not an object.", "Send a JSON object.")
    return read


def _answer(read: Callable[[], Any]) -> Callable[[], Awaitable[JSONResponse]]:
    async def answer() -> JSONResponse:
        return JSONResponse(await run_in_threadpool(read))

    return answer


def _number(value: Any, name: str, low: int = 0, high: int = 2**53) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UsageError(f"{name} must be a whole number from {low} to {high}.", "Give one.")
    return value


def _reads(app: FastAPI, store: ExplorerStore) -> None:
    """Read-only routes."""
    for name in ("about", "runs", "health"):
        app.get(f"/api/{name}")(_answer(getattr(store, name)))

    @app.get("/api/clusters")
    async def clusters(of: str = "") -> JSONResponse:
        return JSONResponse(await run_in_threadpool(store.clusters, of))

    @app.get("/api/item/{row}")
    async def item(row: int) -> JSONResponse:
        return JSONResponse(await run_in_threadpool(store.item, row))

    @app.get("/api/thumb/{row}")
    async def thumb(row: int) -> Response:
        image = await run_in_threadpool(store.pack.thumb, row)
        return Response(image, media_type="image/jpeg", headers={"cache-control": "private, max-age=86400"})

    @app.get("/api/map")
    async def places(name: str = "") -> Response:
        return Response(np.ascontiguousarray(store.pack.places(name), dtype="<f4").tobytes(), media_type="application/octet-stream")

    @app.get("/api/column/{name}")
    async def column(name: str) -> Response:
        return await run_in_threadpool(_coded, store, name)


def _feature_routes(app: FastAPI, store: ExplorerStore) -> None:
    """Routes on features: neighbours, units, selection for labelling, comparison of networks."""

    @app.get("/api/neighbours/{row}")
    async def neighbours(row: int, network: str = "", layer: str = "", count: int = 24) -> JSONResponse:
        return JSONResponse(await run_in_threadpool(store.neighbours, row, network, layer, _number(count, "count", 1, 200)))

    @app.get("/api/beside")
    async def mutual_knn(left: str = "", right: str = "", left_layer: str = "", right_layer: str = "") -> JSONResponse:
        return JSONResponse(await run_in_threadpool(store.mutual_knn, left, right, (left_layer, right_layer)))

    @app.get("/api/worth")
    async def label_selection(count: int = 30) -> JSONResponse:
        return JSONResponse(await run_in_threadpool(store.label_selection, _number(count, "count", 3, 300)))

    @app.get("/api/units")
    async def units(network: str = "", layer: str = "") -> JSONResponse:
        return JSONResponse(await run_in_threadpool(store.units, network, layer))

    @app.get("/api/unit/{number}")
    async def unit(number: int, network: str = "", layer: str = "") -> JSONResponse:
        return JSONResponse(await run_in_threadpool(store.unit, number, network, layer))


def _selections(app: FastAPI, store: ExplorerStore) -> None:
    """Routes of selections, as JSON or as a file."""

    @app.post("/api/select")
    async def select(request: Request) -> Response:
        body = await _body(request)
        rows = await run_in_threadpool(_selected, store, body)
        start, count = _number(body.get("start", 0), "start"), _number(body.get("count", MOST), "count", 0, MOST)
        return JSONResponse({"total": len(rows), "rows": rows[start : start + count].tolist()})

    @app.post("/api/export/{kind}")
    async def export(kind: str, request: Request) -> Response:
        body = await _body(request)
        content, name = await run_in_threadpool(lambda: exported(store, _selected(store, body), kind))
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(content, media_type=TYPES[Path(name).suffix], headers=headers)


def _selected(store: ExplorerStore, body: dict[str, Any]) -> np.ndarray:
    """Rows of a selection: conditions, a lasso and an order; or given rows."""
    rows = body.get("rows")
    if rows is not None:
        if not isinstance(rows, list):
            raise UsageError("Rows must be a list of whole numbers.", "Send a list.")
        return np.array([_number(row, "A row", 0, len(store.pack) - 1) for row in rows], dtype=np.int64)
    conditions, lasso, sort = body.get("conditions", []), body.get("lasso", []), body.get("sort", "")
    if not isinstance(conditions, list) or not all(isinstance(one, dict) for one in conditions) or not isinstance(sort, str):
        raise UsageError("Conditions must be a list of objects, and the order the name of a column.", "See the documentation of select.")
    if not isinstance(lasso, list):
        raise UsageError("A lasso must be a list of corners.", "Send each as an x and a y.")
    order = {"sort": sort, "descending": bool(body.get("descending"))}
    return filter_rows(store.pack, conditions, lasso=lasso, on=str(body.get("map", "")), extra=store.edited_columns(), **order)


def _coded(store: ExplorerStore, name: str) -> Response:
    """A column as float32 values, or as codes of texts, the first of which are listed in a header."""
    extra = store.edited_columns()
    values: np.ndarray = extra[name] if name in extra else store.pack.column(name)
    headers = {}
    if values.dtype == object:
        kinds = sorted(set(values))
        codes = {kind: code for code, kind in enumerate(kinds)}
        headers["x-values"] = _listed(kinds)
        values = np.fromiter((codes[one] for one in values), np.float32, len(values))
    return Response(np.ascontiguousarray(values, dtype="<f4").tobytes(), media_type="application/octet-stream", headers=headers)


def _listed(kinds: Sequence[str]) -> str:
    """The first texts of a column as JSON of bounded length, each shortened, for a header."""
    shown, length = list[str](), 0
    for kind in kinds[:KINDS]:
        text = kind if len(kind) <= LETTERS else f"{kind[: LETTERS - 1]}…"
        length += len(json_text(text)) + 2
        if length > HEADER:
            break
        shown.append(text)
    return json_text(shown)


def _edits(app: FastAPI, store: ExplorerStore) -> None:
    """Routes of edits."""

    @app.get("/api/edits")
    async def history() -> JSONResponse:
        return JSONResponse(await run_in_threadpool(store.edits.history))

    @app.post("/api/edits/{kind}")
    async def edit(kind: str, request: Request) -> JSONResponse:
        body = await _body(request)
        subjects, value = body.get("subjects"), body.get("value")
        if not isinstance(subjects, list) or not isinstance(value, str):
            raise UsageError("An edit needs subjects and a value.", "Send subjects, a list of numbers, and value, a text.")
        await run_in_threadpool(check_edit, store, kind, subjects, value)
        return JSONResponse({"edit": await run_in_threadpool(store.edits.set, kind, subjects, value)})

    @app.post("/api/undo")
    async def undo() -> JSONResponse:
        return JSONResponse({"kind": await run_in_threadpool(store.edits.undo)})

    @app.post("/api/redo")
    async def redo() -> JSONResponse:
        return JSONResponse({"kind": await run_in_threadpool(store.edits.redo)})


def _submit(jobs: Jobs, kind: str, arguments: dict[str, Any], also: str = "", files: Mapping[str, bytes] | None = None) -> JSONResponse:
    try:
        return JSONResponse(jobs.submit(kind, arguments, also, files), 202)
    except QueueFull:
        return JSONResponse({"cause": "Too many jobs are waiting.", "remedy": "Try again later."}, 429, {"retry-after": "5"})


def _job_routes(app: FastAPI, store: ExplorerStore, jobs: Jobs) -> None:
    """Routes of jobs, which need a network."""

    @app.post("/api/jobs/{kind}")
    async def begin(kind: str, request: Request) -> JSONResponse:
        body = await _body(request)
        needs = JOBS.resolve(kind[:40]).needs
        if missing := [need for need in needs if not set(need.split(" or ")) & set(body)]:
            raise UsageError(f"The job {kind} needs a {missing[0]}.", "Give a row, a unit, a class or a cluster.")
        arguments = await run_in_threadpool(_job_arguments, store, body)
        return _submit(jobs, kind, arguments, store.networks[arguments["network"]].probe(arguments))

    @app.get("/api/jobs/{key}")
    async def look(key: str) -> JSONResponse:
        return _or_404(jobs.status(key))

    @app.delete("/api/jobs/{key}")
    async def cancel(key: str) -> JSONResponse:
        return _or_404(jobs.cancel(key))

    @app.get("/api/jobs/{key}/files/{name}")
    async def file(key: str, name: str) -> Response:
        found = jobs.file(key, name)
        if found is None or found.suffix != ".png" or not found.is_file():
            return JSONResponse({"cause": "There is no such file.", "remedy": ""}, 404)
        return FileResponse(found, media_type="image/png")


def _searches(app: FastAPI, store: ExplorerStore, jobs: Jobs) -> None:
    """Search for images similar to an uploaded image, or to a region of an image."""

    @app.get("/api/jobs/{key}/neighbours")
    async def alike(key: str, count: int = 24) -> JSONResponse:
        found = jobs.status(key)
        if found is None or found["state"] != "done" or "vector" not in found["found"]:
            return JSONResponse({"cause": "The job is not done.", "remedy": ""}, 404)
        result = found["found"]
        arguments = (np.array(result["vector"], dtype=np.float32), result["network"], result["layer"], _number(count, "count", 1, 200))
        return JSONResponse(await run_in_threadpool(store.neighbours, *arguments))

    @app.post("/api/search")
    async def search(request: Request, network: str = "", layer: str = "") -> JSONResponse:
        content = await get_running_loop().run_in_executor(_DECODER, _encoded_upload, await request.body())
        if content is None:
            return JSONResponse(
                {"cause": "The upload is not a JPEG, PNG or WebP image, or it is too large.", "remedy": "Upload another image."}, 415
            )
        name = f"{digest((content,), separated=False, length=32)}.png"
        return _submit(jobs, "embed", _job_arguments(store, {"upload": name, "network": network, "layer": layer}), files={name: content})


def _or_404(found: dict[str, Any] | None) -> JSONResponse:
    return JSONResponse({"cause": "There is no such job.", "remedy": ""}, 404) if found is None else JSONResponse(found)


def _job_arguments(store: ExplorerStore, body: dict[str, Any]) -> dict[str, Any]:
    """Validated arguments of a job: a row, a unit, a box, a method by name."""
    arguments: dict[str, Any] = {"network": str(body.get("network", "") or next(iter(store.networks)))}
    if arguments["network"] not in store.networks:
        raise UsageError(f"There is no network {arguments['network'][:40]!r}.", f"There are: {', '.join(store.networks)}.")
    arguments["layer"] = str(body.get("layer", ""))
    if arguments["layer"] and arguments["layer"] not in store.networks[arguments["network"]].bank.layers:
        raise UsageError(f"There is no layer {arguments['layer'][:40]!r}.", "/api/about lists the layers.")
    if "row" in body:
        arguments["row"] = _number(body["row"], "row", 0, len(store.pack) - 1)
    if "unit" in body:
        units = store.networks[arguments["network"]].bank.pooled(arguments["layer"] or None).shape[1]
        arguments["unit"] = _number(body["unit"], "unit", 0, units - 1)
    if "class" in body:
        classes = store.networks[arguments["network"]].classes
        if not classes:
            raise UsageError("There is no linear probe.", "Measure the run: selfsight measure RUN --train DATA --test DATA --probes linear")
        arguments["class"] = _number(body["class"], "class", 0, len(classes) - 1)
    if "cluster" in body:
        arguments["of"] = look_up("clustering", str(body.get("of") or CLUSTER), store.pack.clusterings)
        arguments["cluster"] = _number(body["cluster"], "cluster", 0, len(store.pack.clusterings[arguments["of"]]) - 1)
        arguments["parts"] = next((one["parts"] for one in store.clusters(arguments["of"]) if one["number"] == arguments["cluster"]), [])
    if "box" in body:
        box = body["box"]
        if not isinstance(box, list) or len(box) != 4 or not all(isinstance(one, int | float) and 0 <= one <= 1 for one in box):
            raise UsageError("A box must be four fractions: left, top, right, bottom.", "Use values from 0 to 1.")
        arguments["box"] = [round(float(one), 4) for one in box]
    for name in ("method", "upload"):
        if name in body:
            text = str(body[name])
            if not text.replace("_", "").replace(".", "").isalnum() or len(text) > 64:
                raise UsageError(f"{text[:40]!r} is not a name.", "Use letters and digits.")
            arguments[name] = text
    return arguments


def _encoded_upload(content: bytes) -> bytes | None:
    """An uploaded image, read as the data set's images are, as PNG; ``None`` if it is not an image."""
    try:
        image, (height, width) = header(content)
        if image.format not in FORMATS or height * width > PIXELS:
            return None
        pixels, _ = decode(content, UPLOAD_SIDE)
    except Unreadable:
        return None
    buffer = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def _pages(app: FastAPI, static: Path) -> None:
    """The page's files; every other path returns the page, which reads its view from the address."""
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
