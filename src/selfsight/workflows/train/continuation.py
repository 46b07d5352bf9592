"""Whether the data of a run that is continued are those that it was begun with."""

from pathlib import Path
from typing import Any

from selfsight.core.distribute import any_process
from selfsight.core.errors import DataError, ResumeMismatch
from selfsight.core.files import inside, read_json
from selfsight.core.method import RemembersSamples
from selfsight.core.progress import ProgressCallback
from selfsight.data.source import Source
from selfsight.modules.table import SampleTable
from selfsight.workflows.train.config import TrainConfig, build

__all__ = ["check_data"]


def check_data(run: Path, saved: TrainConfig, source: Source, *, accept: bool, progress: ProgressCallback) -> bool:
    """Compare the data with those that the run was last trained on, by fingerprint and number of samples.

    Args:
        run: the run's folder.
        saved: its configuration.
        source: the data as they are now.
        accept: go on with other data if the method can.
        progress: called with a note where nothing can be compared, or other data are accepted.

    Returns:
        Whether the data have changed since the run was begun, now or when it was continued earlier.

    Raises:
        ResumeMismatch: they have changed and that is not accepted, or the method cannot go on with them.
    """
    before = _trained_on(run)
    if before.get("data") is None:
        progress("the run does not tell which data it was trained on; they are not compared")
        return False
    if not any_process(before["data"] != source.fingerprint):  # all processes have read the file before the first one changes it
        return bool(before.get("earlier_data"))
    difference = _difference(before, source)
    if not accept:
        raise ResumeMismatch(
            f"The data of {run} have changed since it was trained: {difference}.",
            "Restore them, continue with the changed data with --accept-data, or choose another --out.",
        )
    if before.get("images") != len(source) and _remembers(saved):
        raise ResumeMismatch(
            f"{saved.method} remembers every sample, and cannot continue with another number of them: {difference}.",
            "Restore the data, or choose another --out.",
        )
    if saved.batch > len(source):
        raise ResumeMismatch(f"The run has batches of {saved.batch}, and there are {len(source)} samples now.", "Choose another --out.")
    progress(f"continuing with changed data ({difference}): the result is not that of one data set")
    return True


def _difference(before: dict[str, Any], source: Source) -> str:
    count, now = before.get("images"), len(source)
    if count == now:
        return f"{now} samples before and now, of which some are others (fingerprint {before['data']} before, {source.fingerprint} now)"
    return f"{count if count is not None else 'an unknown number of'} samples before, {now} now"


def _trained_on(run: Path) -> dict[str, Any]:
    """Fingerprint and number of samples of a run's data: of ``origin.json``, or of the metadata of its network."""
    for name, key in (("origin.json", None), ("export/config.json", "selfsight")):
        try:
            content = read_json(inside(run, name))
        except (FileNotFoundError, DataError):
            continue
        found = content if key is None else content.get(key)
        if isinstance(found, dict) and isinstance(found.get("data"), str):
            return found
    return {}


def _remembers(saved: TrainConfig) -> bool:
    """Whether a method has a table with a row per sample."""
    method = build(saved)
    return isinstance(method, RemembersSamples) or any(isinstance(module, SampleTable) for module in method.modules())
