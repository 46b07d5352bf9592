"""Arguments and context of a job."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from selfsight.bank.store import OUTPUT
from selfsight.core.progress import ProgressCallback
from selfsight.core.representation import Representation
from selfsight.data.loader import load_images
from selfsight.data.source import Source
from selfsight.explorer.server.pack import Pack

if TYPE_CHECKING:
    from selfsight.explorer.worker.worker import LoadedNetwork, Worker

__all__ = ["TOP", "JobContext", "JobRequest"]

TOP = 12
"""Images of a unit or a cluster that a job uses."""


@dataclass(frozen=True)
class JobRequest:
    """The checked arguments of a job.

    Attributes:
        network: name of the network.
        layer: name of a layer; empty: the output.
        row: an image.
        unit: a unit of the layer.
        class_index: a class of the linear probe.
        of: the clustering that ``cluster`` belongs to.
        cluster: a cluster.
        parts: clusters that were merged into it.
        box: left, top, right, bottom as fractions of the image.
        method: names of methods with dots between.
        upload: the file name of an uploaded image.
    """

    network: str
    layer: str = ""
    row: int | None = None
    unit: int | None = None
    class_index: int | None = None
    of: str = ""
    cluster: int | None = None
    parts: tuple[int, ...] = ()
    box: tuple[float, ...] | None = None
    method: str = ""
    upload: str | None = None

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "JobRequest":
        """A request from JSON, where a class is called ``class``."""
        renamed = {"class_index" if name == "class" else name: value for name, value in content.items()}
        for name in ("parts", "box"):
            if renamed.get(name) is not None:
                renamed[name] = tuple(renamed[name])
        return cls(**renamed)

    @property
    def inner_layer(self) -> str | None:
        """The requested inner layer; ``None``: the output."""
        return self.layer if self.layer and self.layer != OUTPUT else None

    @property
    def unit_name(self) -> str:
        """The unit as a target of explanations, such as ``unit:stages.3/17``; empty if no unit is requested."""
        return "" if self.unit is None else f"unit:{self.layer}/{self.unit}"

    @property
    def item(self) -> int:
        """The row of the image."""
        assert self.row is not None
        return self.row


@dataclass(frozen=True)
class JobContext:
    """What a job can use.

    Attributes:
        worker: the data set and its banks.
        network: the requested network, in memory.
        request: the job's arguments.
        out: the folder of its files.
        progress: called with one line for each step.
    """

    worker: "Worker"
    network: "LoadedNetwork"
    request: JobRequest
    out: Path
    progress: ProgressCallback

    @property
    def phi(self) -> Representation:
        """The representation."""
        return self.network.phi

    @property
    def path(self) -> Path:
        """The folder of its run."""
        return self.network.path

    @property
    def source(self) -> Source:
        """The data set."""
        return self.worker.source

    @property
    def pack(self) -> Pack:
        """The prepared data set."""
        return self.worker.pack

    def vectors(self, *, output: bool = False) -> Float[np.ndarray, "item dim"]:
        """Features of every image at the requested layer, or of the ``output``."""
        return self.worker.vectors(self.request.network, "" if output else self.request.layer)

    def image_file(self) -> Path:
        """The image of ``request.row``, written as a PNG file."""
        batch = load_images(self.source, np.array([self.request.item]))
        height, width = batch.pixels.shape[2:] if batch.extent is None else batch.extent[0].tolist()
        levels = batch.pixels[0, :, :height, :width].permute(1, 2, 0).numpy()
        self.out.mkdir(parents=True, exist_ok=True)
        file = self.out / f"{self.request.item}.png"
        Image.fromarray(levels if levels.shape[2] == 3 else levels[..., 0]).save(file)
        return file

    def save_result(self, found: Any) -> dict[str, Any]:
        """Save a result of a workflow as one sheet; what the job answers."""
        found.save(self.out)
        return {"files": ["sheet.png"]}
