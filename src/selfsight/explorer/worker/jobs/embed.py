"""Features of an uploaded image or of a part of an image."""

from typing import Any

import numpy as np
import torch
from PIL import Image

from selfsight.core.errors import UsageError
from selfsight.core.files import inside
from selfsight.core.finite_tensors import require_finite_tensor
from selfsight.core.views import Images
from selfsight.data.evaluation_view import central_view
from selfsight.explorer.worker.request import JobContext

__all__ = ["run"]


@torch.no_grad()
def run(job: JobContext) -> dict[str, Any]:
    """The features of an uploaded image, which is deleted, or of a box in an image of the data set.

    Raises:
        UsageError: neither an upload nor a row is given.
        DataError: the upload is not in the folder of the job, or the features are NaN or infinite.
    """
    request = job.request
    if request.upload is not None:
        upload = inside(job.out, request.upload)
        levels = np.array(Image.open(upload).convert("RGB"))
        upload.unlink()
    elif request.row is not None:
        levels = np.array(Image.open(job.image_file()).convert("RGB"))
    else:
        raise UsageError("There is no image to search for.", "Give a row, or upload an image.")
    if request.box is not None:
        left, top, right, bottom = (round(part * side) for part, side in zip(request.box, levels.shape[1::-1] * 2, strict=True))
        levels = levels[min(top, bottom - 1) : max(bottom, top + 1), min(left, right - 1) : max(right, left + 1)]
    pixels = torch.from_numpy(np.ascontiguousarray(levels)).permute(2, 0, 1)[None]
    view = central_view(Images(pixels, torch.zeros(1, dtype=torch.long)), job.phi.size)
    vectors = job.phi.pooled(view, request.inner_layer).float()
    require_finite_tensor(vectors)
    vector = vectors[0].cpu().numpy()
    return {"vector": [round(float(value), 6) for value in vector], "network": request.network, "layer": request.layer, "files": []}
