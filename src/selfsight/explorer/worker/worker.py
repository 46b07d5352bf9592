"""The explorer's worker: jobs that take a network, as lines of JSON; ``python -m selfsight.explorer.worker.worker FOLDER`` of a prepared data set."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from selfsight.backbones.loading import load_representation
from selfsight.bank.store import OUTPUT, Bank
from selfsight.core.errors import DataError, SelfsightError, UsageError
from selfsight.core.progress import ProgressCallback
from selfsight.core.readout import Readout
from selfsight.core.representation import Representation
from selfsight.core.views import Images
from selfsight.data.loader import load_images
from selfsight.data.source import Source
from selfsight.data.views.image.geometry import central_square
from selfsight.engine.hardware import find_device
from selfsight.explorer.prepare.build import open_selection, untrained_reference
from selfsight.explorer.server.opening import DataSelection
from selfsight.explorer.server.pack import Pack, nearness_column
from selfsight.explorer.worker.handlers import attention, boxes, crops, dissection, maximised, prototypes, segments
from selfsight.workflows.explain import explain_images, invert_images, maximise_targets

__all__ = ["Worker", "serve_jobs"]

TOP = 12
"""Pictures of a unit or a cluster that are looked at."""


@dataclass(frozen=True)
class LoadedNetwork:
    """A representation in memory.

    Attributes:
        phi: the representation.
        path: the folder of its run, with its readouts; of the untrained network a folder of its own.
    """

    phi: Representation
    path: Path


class Worker:
    """Does jobs about one prepared data set; networks are loaded when they are asked for first.

    Args:
        folder: of the prepared data set.
    """

    def __init__(self, folder: Path) -> None:
        self.pack = Pack(folder)
        self.known = {one["name"]: one for one in self.pack.about["networks"]}
        self.runs = {name: folder / one["run"] for name, one in self.known.items() if one["run"]}
        self.folder, self._runs = folder, dict[str, LoadedNetwork]()

    def run(self, name: str) -> LoadedNetwork:
        """A network and the folder of its run; the untrained network has a folder of its own, so that it never reads a trained probe."""
        if name not in self._runs:
            path = self.runs.get(name, next(iter(self.runs.values())))
            phi = load_representation(path)
            phi.backbone.to(find_device("auto"))
            if name not in self.runs:
                phi, path = untrained_reference(phi, self.source), self.folder.parent / f"{self.folder.name}.untrained"
            self._runs[name] = LoadedNetwork(phi, path)
        return self._runs[name]

    @cached_property
    def source(self) -> Source:
        """The data set."""
        about = self.pack.about
        found = open_selection(DataSelection(about["data"], about["limit"], about["seed"]), about["size"])
        if found.fingerprint != about.get("fingerprint", found.fingerprint):
            raise DataError("The data have changed since they were prepared.", "Prepare them again: selfsight explore … --again")
        return found

    def vectors(self, given: Mapping[str, Any]) -> Float[np.ndarray, "item dim"]:
        """What the network says of every picture, at the layer that is asked about."""
        return Bank(self.folder / self.known[given["network"]]["bank"]).pooled(given.get("layer") or None)

    def run_job(self, kind: str, given: Mapping[str, Any], out: Path, progress: ProgressCallback) -> dict[str, Any]:
        """Do a job; what was found."""
        ways: dict[str, Callable[..., dict[str, Any]]] = {
            "attention": self._attention,
            "attribute": self._attribute,
            "boxes": self._boxes,
            "crops": self._crops,
            "dissect": self._dissect,
            "embed": self._embed,
            "invert": self._invert,
            "maximise": self._maximise,
            "picture": self._picture,
            "prototypes": self._prototypes,
            "segments": self._segments,
        }
        progress("the network is loaded")
        return ways[kind](self.run(given["network"]), given, out, progress)

    def _image(self, given: Mapping[str, Any], out: Path) -> Path:
        """A picture of the data set, as it is kept, as a file."""
        batch = load_images(self.source, np.array([given["row"]]))
        height, width = batch.pixels.shape[2:] if batch.extent is None else batch.extent[0].tolist()
        levels = batch.pixels[0, :, :height, :width].permute(1, 2, 0).numpy()
        out.mkdir(parents=True, exist_ok=True)
        file = out / f"{given['row']}.png"
        Image.fromarray(levels if levels.shape[2] == 3 else levels[..., 0]).save(file)
        return file

    def _attention(self, run: LoadedNetwork, given: Mapping[str, Any], out: Path, progress: ProgressCallback) -> dict[str, Any]:  # noqa: ARG002
        return attention(run.phi, self.source, given["row"], out)

    def _attribute(self, run: LoadedNetwork, given: Mapping[str, Any], out: Path, progress: ProgressCallback) -> dict[str, Any]:
        target = f"unit:{given['layer']}/{given['unit']}" if "unit" in given else "code"
        methods = given.get("method", "gradient.grad_cam.integrated_gradients.occlusion").split(".")
        return _sheet(
            explain_images(run.phi, run.path, [str(self._image(given, out))], target=target, methods=methods, progress=progress), out
        )

    def _boxes(self, run: LoadedNetwork, given: Mapping[str, Any], out: Path, progress: ProgressCallback) -> dict[str, Any]:
        progress("objects by several ways")
        return boxes(run.phi, self.source, given["row"], out)

    def _crops(self, run: LoadedNetwork, given: Mapping[str, Any], out: Path, progress: ProgressCallback) -> dict[str, Any]:
        progress("where the unit is high")
        rows = np.argsort(-np.asarray(self.vectors(given)[:, given["unit"]], dtype=np.float64), kind="stable")[:TOP]
        return crops(run.phi, self.source, _inner(given), given["unit"], rows, out)

    def _dissect(self, run: LoadedNetwork, given: Mapping[str, Any], out: Path, progress: ProgressCallback) -> dict[str, Any]:  # noqa: ARG002
        return dissection(run.phi, self.source, _inner(given), progress)

    def _invert(self, run: LoadedNetwork, given: Mapping[str, Any], out: Path, progress: ProgressCallback) -> dict[str, Any]:
        layer = _inner(given)
        layers = list(run.phi.layers) if layer is None else [layer]
        return _sheet(invert_images(run.phi, run.path, [str(self._image(given, out))], layers=layers, progress=progress), out)

    def _maximise(self, run: LoadedNetwork, given: Mapping[str, Any], out: Path, progress: ProgressCallback) -> dict[str, Any]:
        target = f"unit:{given['layer']}/{given['unit']}" if "unit" in given else f"class:{self._class(run, given)}"
        return maximised(maximise_targets(run.phi, run.path, [target], progress=progress), out)

    @staticmethod
    def _class(run: LoadedNetwork, given: Mapping[str, Any]) -> str:
        return Readout.load(run.path / "measures" / "linear").classes[given["class"]]

    def _prototypes(self, run: LoadedNetwork, given: Mapping[str, Any], out: Path, progress: ProgressCallback) -> dict[str, Any]:
        progress("the patches that set the cluster apart")
        labels, near = self.pack.column(given["of"]).astype(np.int64), self.pack.column(nearness_column(given["of"]))
        labels = np.where(np.isin(labels, given["parts"]), given["cluster"], labels)
        members = np.flatnonzero(labels == given["cluster"])
        rows = members[np.argsort(-near[members], kind="stable")][:TOP]
        return prototypes(run.phi, self.source, rows, labels, np.asarray(self.vectors(given)), given["cluster"], out)

    def _segments(self, run: LoadedNetwork, given: Mapping[str, Any], out: Path, progress: ProgressCallback) -> dict[str, Any]:
        progress("eigenvectors of the picture's places")
        return segments(run.phi, self.source, given["row"], out)

    def _picture(self, run: LoadedNetwork, given: Mapping[str, Any], out: Path, progress: ProgressCallback) -> dict[str, Any]:  # noqa: ARG002
        return {"files": [self._image(given, out).name]}

    @torch.no_grad()
    def _embed(self, run: LoadedNetwork, given: Mapping[str, Any], out: Path, progress: ProgressCallback) -> dict[str, Any]:  # noqa: ARG002
        """What the network says of an uploaded picture, or of a part of one of the data set."""
        if "upload" in given:
            levels = np.array(Image.open(out.parent / "uploads" / given["upload"]).convert("RGB"))
        elif "row" in given:
            levels = np.array(Image.open(self._image(given, out)).convert("RGB"))
        else:
            raise UsageError("There is no picture to look for.", "Give a row, or upload one.")
        if "box" in given:
            left, top, right, bottom = (round(part * side) for part, side in zip(given["box"], levels.shape[1::-1] * 2, strict=True))
            levels = levels[min(top, bottom - 1) : max(bottom, top + 1), min(left, right - 1) : max(right, left + 1)]
        pixels = torch.from_numpy(np.ascontiguousarray(levels)).permute(2, 0, 1)[None]
        view = central_square(Images(pixels, torch.zeros(1, dtype=torch.long)), run.phi.size)
        vector = run.phi.pooled(view, _inner(given))[0].float().cpu().numpy()
        return {"vector": [round(float(value), 6) for value in vector], "network": given["network"], "layer": given["layer"], "files": []}


def _inner(given: Mapping[str, Any]) -> str | None:
    """The inner layer that is asked about; ``None``: the output."""
    return given["layer"] if given.get("layer") and given["layer"] != OUTPUT else None


def _sheet(found: Any, out: Path) -> dict[str, Any]:
    found.save(out)
    return {"files": ["sheet.png"]}


def serve_jobs(folder: Path) -> None:
    """Do jobs that come as lines of JSON, and answer in lines of JSON, until there are no more."""
    if hasattr(os, "nice"):
        os.nice(5)  # whoever looks at the page shall not wait for it
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print shall not be taken for an answer

    def tell(**words: Any) -> None:
        answers.write(json.dumps(words) + "\n")
        answers.flush()

    worker = Worker(folder)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            tell(found=worker.run_job(asked["kind"], asked["given"], Path(asked["out"]), lambda words: tell(words=words)))
        except SelfsightError as problem:
            tell(failed=f"{problem.cause} {problem.remedy}")
        except Exception as problem:  # noqa: BLE001  a job that fails is told to who asked, and the next one is done
            tell(failed=f"{type(problem).__name__}: {problem}")


if __name__ == "__main__":
    serve_jobs(Path(sys.argv[1]))
