"""Runtime checks of shapes and types in all tests, without cost outside of tests."""

import os
from pathlib import Path

import pytest
import torch

from checking import install

START = Path.cwd()
install()
torch.set_num_threads(1)  # what is tested is small, and slower on two
os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # of child processes: threads that wait for a core that another test holds take all of its time
LONG = ("test_browser.py", "test_docs.py", "test_pair.py", "test_02_resume.py")
"""Files that take longest; they start first, so that no process of the tests is left with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results without a given folder go below the current one, which is not the checkout; files of tests may share another."""
    if Path.cwd() == START:
        monkeypatch.chdir(tmp_path)


@pytest.fixture
def shared() -> Path:
    """The folder of real data; without it the test is skipped."""
    where = os.environ.get("SELFSIGHT_SHARED_DATA")
    if not where:
        pytest.skip("real data: set SELFSIGHT_SHARED_DATA to run this test")
    return Path(where)
