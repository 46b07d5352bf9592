"""Attribution maps of one image."""

from typing import Any

from selfsight.explorer.worker.request import JobContext
from selfsight.workflows.explain import explain_images

__all__ = ["run"]


METHODS = "gradient.grad_cam.integrated_gradients.occlusion"


def run(job: JobContext) -> dict[str, Any]:
    """Attribution maps of a unit, or of the whole output, by several methods (names with dots between)."""
    methods = (job.request.method or METHODS).split(".")
    image = str(job.image_file())
    found = explain_images(job.phi, job.path, [image], target=job.request.unit_name or "code", methods=methods, progress=job.progress)
    return job.save_result(found)
