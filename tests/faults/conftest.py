"""Runs that nothing interrupts, to compare with."""

from collections.abc import Callable
from pathlib import Path

import pytest

from selfsight.workflows.train.run import RunPolicy, run_training

from training import quiet, request_for


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
