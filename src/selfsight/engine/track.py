"""Export of records to trackers."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from selfsight.core.errors import MissingExtra

__all__ = ["TensorBoard"]


class TensorBoard:
    """Writes all numbers of records and timings for TensorBoard.

    Args:
        folder: folder of the event files.

    Raises:
        MissingExtra: the package tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        if find_spec("tensorboard") is None:
            raise MissingExtra("tensorboard", "track", "Writing for TensorBoard")
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder))

    def on_record(self, record: dict[str, Any], timing: dict[str, Any]) -> None:
        """Write a record.

        Args:
            record: record of a step.
            timing: timing of the same step.
        """
        step = record["step"]
        for name, value in record.items():
            if name != "step":
                self.writer.add_scalar(f"train/{name}", value, step)
        for name, value in timing.items():
            if name != "step":
                self.writer.add_scalar(f"timing/{name}", value, step)
        self.writer.flush()
