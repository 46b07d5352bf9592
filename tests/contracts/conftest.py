"""Two processes that train every method, shared by all tests, which therefore run in one pytest worker."""

from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.connection import wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch

from pair import work


class Pair:
    """Two spawned processes and their output folder."""

    def __init__(self) -> None:
        self.folder = TemporaryDirectory()
        spawn = get_context("spawn")
        self.processes = [spawn.Process(target=work, args=(number, self.folder.name), daemon=True) for number in range(2)]
        for process in self.processes:
            process.start()

    def results(self) -> dict[str, dict[str, Any]]:
        """Results of each process alone and of both together."""
        sentinels = {process.sentinel: process for process in self.processes}
        ended = wait(list(sentinels), 240)
        assert ended, "the pair has not ended after four minutes"
        first = sentinels[ended[0]]  # pyright: ignore[reportArgumentType]
        first.join()
        for process in self.processes:
            process.join(20 if first.exitcode == 0 else 0)
            process.kill()  # one that waits for another that has failed
        where = Path(self.folder.name)
        said = "\n".join(path.read_text()[-2000:] for path in sorted(where.glob("said*.txt")))
        assert [process.exitcode for process in self.processes] == [0, 0], said
        found = {name: torch.load(where / f"{name}.pt", weights_only=True) for name in ("alone0", "alone1", "together0", "together1")}
        return {"alone": found["alone0"] | found["alone1"], "first": found["together0"], "second": found["together1"]}

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()
        self.folder.cleanup()


@pytest.fixture(scope="session")
def runs() -> Iterator[dict[str, dict[str, Any]]]:
    """The pair of processes, shared by all cases."""
    pair = Pair()
    try:
        yield pair.results()
    finally:
        pair.end()
