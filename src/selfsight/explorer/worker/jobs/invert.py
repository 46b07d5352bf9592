"""Reconstructions of one image from the layers."""

from typing import Any

from selfsight.explorer.worker.request import JobContext
from selfsight.workflows.explain import invert_images

__all__ = ["run"]


def run(job: JobContext) -> dict[str, Any]:
    """Images whose features are those of an image, for one layer or all."""
    layer = job.request.inner_layer
    layers = list(job.phi.layers) if layer is None else [layer]
    return job.save_result(invert_images(job.phi, job.path, [str(job.image_file())], layers=layers, progress=job.progress))
