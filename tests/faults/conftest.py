"""Runs that nothing interrupts, to compare with, and runs whose files may be damaged; a served prepared data set."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from selfsight.cli import main
from selfsight.explorer.server.opening import serve
from selfsight.workflows.train.run import RunPolicy, run_training

from explorer_store import Client, make_shelf
from training import FOUR_STEPS, quiet, request_for


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Uninterrupted runs, trained once."""
    made: dict[str, Path] = {}

    def get(method: str) -> Path:
        if method not in made:
            made[method] = tmp_path_factory.mktemp("whole") / method
            run_training(request_for(method), made[method], RunPolicy(progress=quiet))
        return made[method]

    return get


@pytest.fixture(scope="session")
def four_steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps with checkpoints after two and four."""
    folder = tmp_path_factory.mktemp("four") / "run"
    assert main([*FOUR_STEPS, str(folder)]) == 0
    return folder


@pytest.fixture
def run(tmp_path: Path, four_steps: Path) -> Path:
    """A copy of it."""
    shutil.copytree(four_steps, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of the explorer without jobs."""
    folder = tmp_path_factory.mktemp("shelf")
    make_shelf(folder)
    opened = serve(folder / "pack", port=0, work=False)
    yield Client(opened)
    opened.close()
