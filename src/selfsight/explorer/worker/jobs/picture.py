"""One image of the data set as a file."""

from typing import Any

from selfsight.explorer.worker.request import JobContext

__all__ = ["run"]


def run(job: JobContext) -> dict[str, Any]:
    """One image of the data set, in full size."""
    return {"files": [job.image_file().name]}
