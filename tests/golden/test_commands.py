"""Golden values of the command line: the ``--json`` of its verbs, without times, rates and paths."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from selfsight.api import Run
from selfsight.cli import main
from selfsight.workflows.discover.table import DISCOVERIES

from golden import check
from golden.telling import flat

pytestmark = pytest.mark.slow

DATA, TEST = "world:shapes?count=32&size=32", "world:shapes?count=24&size=32&split=test"
CPU = ["--device", "cpu", "--json"]
VOLATILE = ("seconds", "views_per_second")
Ask = Callable[..., Any]


def _learn(out: Path, *more: str) -> list[str]:
    words = ["learn", DATA, "--size", "32", "--batch", "16", "--steps", "3", "--precision", "fp32", "--backbone", "resnet_tiny?width=8"]
    return [*words, "--hidden", "32", "--dim", "16", "--out", str(out), "--no-report", *more, *CPU]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with an evaluated run, in which commands are executed."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch, threadpool_limits(1):
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        assert main(_learn(Path("run"))) == 0
        assert main(["measure", "run", "--train", DATA, "--test", TEST, "--probes", "linear,cluster", "--no-baselines", *CPU]) == 0
        yield folder


@pytest.fixture
def ask(home: Path, capsys: pytest.CaptureFixture) -> Ask:
    """Run a command; returns its JSON output, with paths relative to the folder."""

    def asked(*words: str) -> Any:
        capsys.readouterr()
        code = main(list(words))
        out = capsys.readouterr().out
        assert code == 0, words
        assert out.count("\n") == 1
        return json.loads(out.replace(f"{home}/", ""))

    return asked


def _kept(found: Any) -> Any:
    """The output without times and rates."""
    return {name: value for name, value in found.items() if name not in VOLATILE} if isinstance(found, dict) else found


def test_learn(ask: Ask) -> None:
    """Without BYOL: views of two sizes contradict the types of ``Method.through``, which are checked for one random view."""
    found: dict[str, Any] = {}
    for name, more in {"simclr": ["--temperature", "0.3"], "barlow": ["--training.rate", "0.1"]}.items():
        found |= flat(name, _kept(ask(*_learn(Path(name), "--method", name, *more))))
        config, (last,) = json.loads(Path(name, "config.json").read_text()), Path(name, "metrics.jsonl").read_text().splitlines()[-1:]
        found |= flat(f"{name}/metrics", json.loads(last))
        found |= {
            f"{name}/options": sorted(config["options"]),
            f"{name}/settings": sorted(config),
            f"{name}/training": sorted(config["training"]),
        }
        found |= {f"{name}/files": sorted(path.name for path in Path(name).iterdir() if not path.name.startswith("."))}
    found |= flat("again", _kept(ask("learn", "--repeat", "simclr", "--out", "again", "--no-report", *CPU)))
    found |= flat("resumed", _kept(ask("learn", "--repeat", "simclr", "--resume", "--no-report", *CPU)))
    check("commands.learn", found)


def test_bank(ask: Ask) -> None:
    found = ask("bank", "run", "--data", TEST, "--layers", "stages.1", "--half", *CPU)
    rows = {layer: np.load(Path(found["bank"]) / f"{layer}.npy") for layer in found["layers"]}
    found["bank"] = str(Path(found["bank"]).parent)
    check("commands.bank", flat("told", found) | {f"rows of {layer}": one for layer, one in rows.items()})


@pytest.mark.parametrize("probes", ["knn,linear", "cluster,geometry,retrieve", "reverse,svm"])
def test_measure(ask: Ask, probes: str) -> None:
    found = ask("measure", "run", "--train", DATA, "--test", TEST, "--probes", probes, *CPU)
    check(f"commands.measure.{probes.replace(',', '_')}", flat("told", found))


def test_measure_several(ask: Ask) -> None:
    words = [
        "measure",
        "run",
        "untrained:resnet_tiny?width=8",
        "--train",
        DATA,
        "--test",
        TEST,
        "--probes",
        "knn",
        "--no-baselines",
        "--size",
        "32",
    ]
    check("commands.measure.several", flat("told", ask(*words, *CPU)))


EXPLAIN: dict[str, list[str]] = {
    "attribute": ["attribute", "run", f"{DATA}#0,2", "--target", "unit:stages.2/3", "--method", "gradient,grad_cam,integrated_gradients"],
    "attribute a class": ["attribute", "run", f"{DATA}#1", "--target", "class:star", "--method", "gradient"],
    "attribute a cluster": ["attribute", "run", f"{DATA}#1", "--target", "cluster:1", "--method", "grad_cam"],
    "invert": ["invert", "run", f"{DATA}#1", "--layers", "stem,stages.1", "--restarts", "2", "--steps", "6"],
    "invert by form": ["invert", "run", f"{DATA}#1", "--layers", "stem", "--method", "form", "--steps", "3"],
    "invert learned": ["invert", "run", f"{DATA}#1", "--layers", "stem", "--method", "learned"],
    "maximise": ["maximise", "run", "unit:stages.1/3", "class:star", "--count", "2", "--steps", "4"],
    "maximise phase": ["maximise", "run", "unit:stages.1/3", "--count", "2", "--steps", "4", "--parameterisation", "phase"],
    "compare": ["compare", "run", "untrained:resnet_tiny?width=8", "--count", "2", "--steps", "2"],
    "diagnose": ["diagnose", "run", f"{DATA}#0,2", "--target", "unit:stages.1/3"],
}


@pytest.mark.parametrize("name", EXPLAIN)
def test_explain(ask: Ask, home: Path, name: str) -> None:
    if "learned" in name:
        Run("run", device="cpu").inverter("stem", steps=2, width=8)
    found = ask("explain", *EXPLAIN[name], "--out", f"explained/{name.replace(' ', '_')}", *CPU)
    check(f"commands.explain.{name.replace(' ', '_')}", flat("told", found))


@pytest.mark.parametrize("what", DISCOVERIES)
def test_discover(ask: Ask, home: Path, what: str) -> None:
    more = {
        "clusters": ["--classes", "4"],
        "selection": ["--classes", "4", "--count", "6"],
        "segments": ["--classes", "3", "--no-baselines"],
    }.get(what, [])
    more = more or {"parts": ["--classes", "2", "--foreground", "border", "--no-baselines"], "boxes": ["--method", "fiedler"]}.get(what, [])
    layer = ["--layer", "stages.1"] if what in ("boxes", "segments", "parts") else []
    limit = ["--limit", "8"] if layer else []
    found = ask("discover", "run", TEST, "--what", what, *more, *layer, *limit, *CPU)
    found["files"] = [Path(file).name for file in found["files"]]
    check(f"commands.discover.{what}", flat("told", found))


def test_discover_several(ask: Ask, home: Path) -> None:
    found = ask(
        "discover", "run", TEST, "--what", "clusters,duplicates", "--classes", "4", "--method", "kmeans,pixels", "--no-baselines", *CPU
    )
    check("commands.discover.several", flat("told", found))


def test_explore_and_labels(ask: Ask, home: Path) -> None:
    from selfsight.explorer.server.store import ExplorerStore

    folder = Path(ask("explore", "run", "--maps", "pca", "--no-serve", *CPU)["folder"])
    shelf = ExplorerStore.of(home / folder)
    shelf.edits.set("cluster_name", [0], "first")
    shelf.edits.set("cluster_name", [1], "second")
    shelf.edits.close()
    found = flat("labels", ask("discover", "run", DATA, "--what", "labels", *CPU))
    found |= flat("page", ask("explore", "run", "--export", "still", *CPU)) | {"folder": str(folder.parent)}
    check("commands.explore", found)


def test_report_methods_and_doctor(ask: Ask, home: Path) -> None:
    found = flat("report", ask("report", "run", *CPU)) | flat("methods", ask("methods", "--json"))
    told = ask("doctor", "--no-trial", "--json")
    found |= {"doctor": sorted(told), "extras": sorted(told["extras"]), "selfsight": told["selfsight"]}
    (model,) = ask("doctor", "--models", "--names", "resnet_tiny", "--size", "32", "--json")["models"]
    rates = [name for name in model if "second" in name or "images" in name]
    check(
        "commands.report",
        found | {"model fields": sorted(model)} | flat("model", {name: one for name, one in model.items() if name not in rates}),
    )


@pytest.mark.parametrize(
    "words",
    [
        ["nothing"], ["learn"], ["bank", "run", "--data", "nowhere"], ["discover", "run", DATA, "--what", "nothing"],
        ["discover", "run", DATA, "--method", "cutt"], ["explain", "attribute", "run", f"{DATA}#99"], ["explain", "maximise", "run", "code"],
        ["explain", "divine", "run"], ["learn", DATA, "--method", "simclrr"], ["learn", DATA, "--out", "run"], ["report", "run", "--device", "abacus"],
        ["explore", "nowhere"],
    ],
    ids=lambda words: " ".join(words).partition("?")[0].replace(":", " "),
)  # fmt: skip
def test_refusals(home: Path, capsys: pytest.CaptureFixture, request: pytest.FixtureRequest, words: list[str]) -> None:
    capsys.readouterr()
    code = main(words)
    told = capsys.readouterr().err.replace(f"{home}/", "").replace(str(home), ".")
    check(f"commands.refused.{request.node.callspec.id.replace(' ', '_')}", {"code": code, "words": told.splitlines()})
