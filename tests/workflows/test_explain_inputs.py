"""Images and targets from text arguments."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from selfsight.cli import main
from selfsight.core.errors import DataError, UsageError
from selfsight.core.readout import Readout
from selfsight.workflows.explain import target_of, training_data
from selfsight.workflows.explain_inputs import read_images

from nets import chain, phi_of

PHI = phi_of(chain()[:-1])


def test_images_are_read_from_files_and_from_rows(tmp_path: Path) -> None:
    Image.fromarray(np.full((30, 20, 3), 51, np.uint8)).save(tmp_path / "one.png")
    found = read_images([str(tmp_path / "one.png"), "world:shapes?count=5&size=16#0,3-4"], PHI)
    assert found.images.shape == (4, 3, 16, 16)
    assert found.names == ("one.png", "world:shapes#0", "world:shapes#3", "world:shapes#4")
    assert float(found.images[0].mean()) == pytest.approx(0.2, abs=1e-3)
    (tmp_path / "many").mkdir()
    for name in ("many/a.png", "many/b.png", "cat #2.png"):
        Image.new("RGB", (16, 16)).save(tmp_path / name)
    assert read_images([f"{tmp_path}/many#0-1"], PHI).images.shape == (2, 3, 16, 16)
    assert read_images([str(tmp_path / "cat #2.png")], PHI).names == ("cat #2.png",)
    whole = read_images([str(tmp_path / "one.png")], PHI, whole=True)
    assert whole.images.shape[2:] == (32, 16)  # whole cells of a network of stride 16


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["world:shapes?count=5&size=16#7"], "row 7"),
        (["world:shapes?count=5&size=16#x"], "not a row"),
        ([], "No image"),
    ],
)
def test_invalid_arguments_are_rejected(asked: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_images(asked, PHI)


def test_unreadable_images_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    for path in ("broken.png", "missing.png"):
        with pytest.raises(DataError, match="cannot be read"):
            read_images([str(tmp_path / path)], PHI)
    for size, name in (((30, 20), "a.png"), ((20, 30), "b.png")):
        Image.new("RGB", size).save(tmp_path / name)
    with pytest.raises(DataError, match="several shapes"):
        read_images([str(tmp_path / "a.png"), str(tmp_path / "b.png")], PHI, whole=True)


def test_targets_are_named_as_they_are_typed(tmp_path: Path) -> None:
    shown = torch.rand(3, 3, 16, 16)
    rows = PHI.pooled(shown).detach().numpy()
    arrays = {"weight": np.eye(8)[:2], "bias": np.zeros(2), "mean": np.zeros(8), "scale": np.ones(8)}
    Readout("linear", "output", arrays, ("cat", "dog")).save(tmp_path / "measures" / "linear")
    Readout("centroids", "output", {"centroids": rows}, facts={"unit_length": False}).save(tmp_path / "measures" / "cluster")
    given = PHI.normalise(shown)

    def scores(text: str) -> list[float]:
        return target_of(text, PHI, shown, tmp_path).score(PHI, given).tolist()

    assert scores("class:dog") == pytest.approx((rows[:, 1] - rows[:, 0]).tolist(), rel=1e-4)
    assert scores("class") == pytest.approx(np.abs(rows[:, 1] - rows[:, 0]).tolist(), rel=1e-4)
    assert scores("cluster") == pytest.approx(np.square(rows).sum(1) / 2, rel=1e-4)
    assert scores("cluster:1")[1] == pytest.approx(float(np.square(rows[1]).sum() / 2), rel=1e-4)
    assert scores("code") == pytest.approx([1.0] * 3, rel=1e-5)
    assert scores("code:module.4") == pytest.approx([1.0] * 3, rel=1e-5)
    grid = PHI.grid(shown, "module.4").detach()
    assert scores("unit:module.4/2") == pytest.approx(grid[:, 2].mean((1, 2)).tolist(), rel=1e-5)
    assert scores("unit:module.4/2@max") == pytest.approx(grid[:, 2].amax((1, 2)).tolist(), rel=1e-5)
    assert scores("unit:module.4/2@1,3") == pytest.approx(grid[:, 2, 1, 3].tolist(), rel=1e-5)
    assert scores("unit:module.4") == pytest.approx(grid.mean((2, 3)).amax(1).tolist(), rel=1e-5)
    assert max(scores("like:world:shapes?count=5&size=16#2")) <= 1
    for wrong in ("nonsense", "unit:", "unit:module.4/x", "cluster:x", "like:"):
        with pytest.raises(UsageError):
            scores(wrong)


def test_a_run_without_readouts_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no fitted"):
        target_of("class:dog", PHI, torch.rand(1, 3, 16, 16), tmp_path)


def test_data_named_relative_to_another_folder_are_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(4):
        Image.new("RGB", (16, 16), (60 * number,) * 3).save(tmp_path / "photos" / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    words = ["learn", "photos", "--size", "16", "--backbone", "resnet_tiny?width=4", "--batch", "4", "--steps", "1", "--device", "cpu"]
    assert main([*words, "--no-report", "--out", "run"]) == 0
    assert len(training_data(Path("run"), "run")) == 4
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="as seen from the folder in which it was trained") as error:
        training_data(tmp_path / "run", "run")
    assert "DATA of report" in error.value.remedy
