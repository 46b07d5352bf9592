"""A network whose features are NaN is named in every command, with one line of cause and one of remedy."""

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from selfsight.cli import main

WORLD = "world:shapes?count=6&size=32"
ROW = f"{WORLD}#0-2"
DISCOVERED = ["boxes", "parts", "segments", "duplicates", "selection", "clusters"]
EXPLAINED = [
    *(["attribute", "RUN", ROW, "--method", method] for method in ("gradient", "extremal", "integrated_gradients", "grad_cam")),
    ["attribute", "RUN", ROW, "--method", "gradient", "--target", "unit:stages.3"],
    ["attribute", "RUN", ROW, "--method", "gradient", "--target", f"like:{WORLD}#4"],
    ["sheet", "RUN", ROW],
    ["maximise", "RUN", "unit:stages.3/1", "--steps", "2"],
    *(["invert", "RUN", ROW, "--method", method, "--data", WORLD] for method in ("descent", "form", "learned")),
    ["diagnose", "RUN", ROW, "--target", "unit:stages.3/1"],
    ["compare", "RUN", "untrained:resnet_tiny?width=4", "--data", WORLD, "--depth", "1", "--steps", "2"],
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose last convolution has one channel of NaN."""
    run = tmp_path_factory.mktemp("nan") / "run"
    words = ["learn", "world:shapes?count=16&size=32", "--method", "npid", "--backbone", "resnet_tiny?width=4", "--size", "32"]
    assert main([*words, "--batch", "8", "--steps", "2", "--device", "cpu", "--out", str(run)]) == 0
    file = run / "export" / "model.safetensors"
    weights = load_file(file)
    convolutions = [name for name in weights if name.endswith("weight") and weights[name].ndim == 4]
    weights[convolutions[-1]][0] = float("nan")
    save_file(weights, file)
    return run


@pytest.mark.parametrize(
    "words",
    [
        ["measure", "RUN", "--train", WORLD, "--test", WORLD, "--probes", "knn"],
        *(["measure", "RUN", "--train", WORLD, "--test", WORLD, "--probes", probe] for probe in ("layers", "dissect", "equivariance")),
        ["bank", "RUN", "--data", WORLD],
        ["bank", "RUN", "--data", WORLD, "--layers", "all", "--half"],
        *(["discover", "RUN", WORLD, "--what", what] for what in DISCOVERED),
        *(["explain", *words] for words in EXPLAINED),
        ["explore", "RUN", "--data", WORLD, "--no-serve"],
        ["report", "RUN", "--data", WORLD],
    ],
    ids=lambda words: "-".join(word.replace("/", "_") for word in words if word != "RUN" and not word.startswith("world"))[:80],
)
def test_a_network_of_nan_is_named(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
):
    monkeypatch.setenv("SELFSIGHT_CACHE", str(tmp_path / "cache"))
    run = shutil.copytree(trained, tmp_path / "run")
    banks = set(run.glob("banks/*"))
    code = main([str(run) if word == "RUN" else word for word in words])
    lines = capsys.readouterr().err.splitlines()
    assert code == 3, lines[-3:]
    (first,) = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    assert " are NaN or infinite: " in lines[first]
    assert " of " in lines[first]
    assert lines[first + 1 :] == [lines[-1]]
    assert lines[-1].startswith("  The network diverged or overflowed: ")
    assert not list(run.rglob("sheet.png"))
    assert set(run.glob("banks/*")) == banks
