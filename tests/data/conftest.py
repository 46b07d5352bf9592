"""A folder of small image files with the kinds of damage that occur in folders of photographs."""

from pathlib import Path

import pytest

from pictures import damaged_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return damaged_folder(tmp_path / "pictures")
