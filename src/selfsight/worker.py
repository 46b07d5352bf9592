"""The explorer's worker: jobs that take a network, as lines of JSON; ``python -m selfsight.worker FOLDER`` of a prepared data set."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image

from selfsight.api import Run
from selfsight.bank.store import OUTPUT
from selfsight.core.errors import SelfsightError, UsageError
from selfsight.core.say import Say
from selfsight.core.views import Images
from selfsight.data.loader import images
from selfsight.data.opening import open_source
from selfsight.data.source import Source
from selfsight.data.views.geometry import central
from selfsight.discover.looked import Look, looks
from selfsight.discover.pages import fitted, page
from selfsight.explorer.pack import Pack
from selfsight.exploring import untrained_of

__all__ = ["Worker", "work"]


class Worker:
    """Does jobs about one prepared data set; networks are loaded when they are asked for first.

    Args:
        folder: of the prepared data set.
    """

    def __init__(self, folder: Path) -> None:
        self.pack = Pack(folder)
        self.known = {one["name"]: one for one in self.pack.about["networks"]}
        self.runs = {name: folder / one["run"] for name, one in self.known.items() if one["run"]}
        self._runs: dict[str, Any] = {}

    def run(self, name: str) -> Any:
        """A network's run; of the untrained one a run with its weights."""
        if name not in self._runs:
            self._runs[name] = Run(self.runs.get(name, next(iter(self.runs.values()))))
            if name not in self.runs:
                self._runs[name].phi = untrained_of(self._runs[name].phi, self.source())
        return self._runs[name]

    def source(self) -> Source:
        """The data set."""
        return open_source(self.pack.about["data"], size=self.pack.about["size"])

    def do(self, kind: str, given: Mapping[str, Any], out: Path, say: Say) -> dict[str, Any]:
        """Do a job; what was found."""
        ways: dict[str, Callable[..., dict[str, Any]]] = {
            "attribute": self._attribute,
            "embed": self._embed,
            "invert": self._invert,
            "maximise": self._maximise,
            "picture": self._picture,
            "segments": self._segments,
        }
        say("the network is loaded")
        return ways[kind](self.run(given["network"]), given, out, say)

    def _image(self, given: Mapping[str, Any]) -> str:
        return f"{self.pack.about['data']}#{given['row']}"

    def _attribute(self, run: Any, given: Mapping[str, Any], out: Path, say: Say) -> dict[str, Any]:
        target = f"unit:{given['layer']}/{given['unit']}" if "unit" in given else "code"
        methods = given.get("method", "gradient.grad_cam.integrated_gradients.occlusion").split(".")
        return _sheet(run.explain([self._image(given)], target=target, methods=methods, say=say), out)

    def _invert(self, run: Any, given: Mapping[str, Any], out: Path, say: Say) -> dict[str, Any]:
        layers = [given["layer"]] if given["layer"] and given["layer"] != OUTPUT else []
        return _sheet(run.invert([self._image(given)], layers=layers, say=say), out)

    def _maximise(self, run: Any, given: Mapping[str, Any], out: Path, say: Say) -> dict[str, Any]:
        return _sheet(run.maximise([f"unit:{given['layer']}/{given['unit']}"], say=say), out)

    def _segments(self, run: Any, given: Mapping[str, Any], out: Path, say: Say) -> dict[str, Any]:
        say("eigenvectors of the picture's places")
        (looked,) = looks(run.phi, self.source(), Look(max(run.phi.size, 96), vectors=5), rows=np.array([given["row"]]))
        shown = [
            looked.small(1)[0],
            _components(looked.features[0]),
            *(_signed(one.unflatten(0, looked.shape)) for one in looked.spectrum.vectors[0, 1:5]),
        ]
        out.mkdir(parents=True, exist_ok=True)
        (out / "sheet.png").write_bytes(page([fitted(one) for one in shown], across=6))
        return {"files": ["sheet.png"], "words": "the picture, its places by three principal components, and its smoothest eigenvectors"}

    def _picture(self, run: Any, given: Mapping[str, Any], out: Path, say: Say) -> dict[str, Any]:  # noqa: ARG002
        batch = images(self.source(), np.array([given["row"]]))
        height, width = batch.pixels.shape[2:] if batch.extent is None else batch.extent[0].tolist()
        out.mkdir(parents=True, exist_ok=True)
        Image.fromarray(batch.pixels[0, :, :height, :width].permute(1, 2, 0).numpy()).save(out / "picture.png")
        return {"files": ["picture.png"]}

    @torch.no_grad()
    def _embed(self, run: Any, given: Mapping[str, Any], out: Path, say: Say) -> dict[str, Any]:
        """What the network says of an uploaded picture, or of a part of one of the data set."""
        if "upload" in given:
            levels = np.array(Image.open(out.parent / "uploads" / given["upload"]).convert("RGB"))
        elif "row" in given:
            self._picture(run, given, out, say)
            levels = np.array(Image.open(out / "picture.png").convert("RGB"))
        else:
            raise UsageError("There is no picture to look for.", "Give a row, or upload one.")
        if "box" in given:
            left, top, right, bottom = (round(part * side) for part, side in zip(given["box"], levels.shape[1::-1] * 2, strict=True))
            levels = levels[min(top, bottom - 1) : max(bottom, top + 1), min(left, right - 1) : max(right, left + 1)]
        pixels = torch.from_numpy(np.ascontiguousarray(levels)).permute(2, 0, 1)[None]
        view = central(Images(pixels, torch.zeros(1, dtype=torch.long)), run.phi.size)
        layer = given["layer"] if given["layer"] != OUTPUT else ""
        vector = run.phi.pooled(view, layer or None)[0].float().cpu().numpy()
        return {"vector": [round(float(value), 6) for value in vector], "network": given["network"], "layer": given["layer"], "files": []}


def _sheet(found: Any, out: Path) -> dict[str, Any]:
    found.save(out)
    return {"files": ["sheet.png"]}


def _components(features: Float[torch.Tensor, "dim rows columns"]) -> UInt8[np.ndarray, "rows columns 3"]:
    """Places by their first three principal components, as colours."""
    rows = features.flatten(1).T.double()
    rows = rows - rows.mean(0)
    _, _, directions = torch.linalg.svd(rows, full_matrices=False)
    found = rows @ directions[:3].T
    low, high = found.quantile(0.02, 0), found.quantile(0.98, 0)
    shown = ((found - low) / (high - low).clamp(min=1e-9)).clamp(0, 1)
    return (shown * 255).round().to(torch.uint8).unflatten(0, features.shape[1:]).cpu().numpy()


def _signed(vector: Float[torch.Tensor, "rows columns"]) -> UInt8[np.ndarray, "rows columns 3"]:
    """An eigenvector: orange above 0, blue below."""
    part = (vector / vector.abs().max().clamp(min=1e-12)).double().cpu().numpy()[..., None]
    orange, blue = np.array([230, 97, 1.0]), np.array([33, 102, 172.0])
    return (255 + np.abs(part) * (np.where(part > 0, orange, blue) - 255)).round().astype(np.uint8)


def work(folder: Path) -> None:
    """Do jobs that come as lines of JSON, and answer in lines of JSON, until there are no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print shall not be taken for an answer

    def tell(**words: Any) -> None:
        answers.write(json.dumps(words) + "\n")
        answers.flush()

    worker = Worker(folder)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            tell(found=worker.do(asked["kind"], asked["given"], Path(asked["out"]), lambda words: tell(words=words)))
        except SelfsightError as problem:
            tell(failed=f"{problem.cause} {problem.remedy}")
        except Exception as problem:  # noqa: BLE001  a job that fails is told to who asked, and the next one is done
            tell(failed=f"{type(problem).__name__}: {problem}")


if __name__ == "__main__":
    work(Path(sys.argv[1]))
