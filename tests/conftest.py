"""Shapes and types are checked in every test; nothing outside tests pays for it."""

import os
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

_hook = install_import_hook("selfsight", "checking.checked")
torch.set_num_threads(1)  # what is tested is small, and slower on two


@pytest.fixture
def shared() -> Path:
    """The folder of real data, or a skip where there is none."""
    where = os.environ.get("SELFSIGHT_SHARED_DATA")
    if not where:
        pytest.skip("real data: set SELFSIGHT_SHARED_DATA to run this test")
    return Path(where)
