"""--overwrite replaces runs of selfsight and nothing else."""

import json
from pathlib import Path

import pytest

from selfsight.cli import main
from selfsight.core.errors import UsageError
from selfsight.engine.ownership import foreign_reason
from selfsight.explorer.server.static_site import export_static_site
from selfsight.explorer.server.store import ExplorerStore
from selfsight.workflows.train.run import RunPolicy, run_training

from training import kept, quiet, request_for

LEARN = ["learn", "world:shapes?count=8&size=16", "--size", "16", "--backbone", "resnet_tiny?width=4", "--batch", "8", "--steps", "1"]
LEARN += ["--device", "cpu", "--no-report", "--out"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own") / "run"
    assert main([*LEARN, str(folder)]) == 0
    return folder


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ('{"model_type": "vit", "hidden_size": 768}', "config.json is that of another program"),
        ('{"data": "d", "method": "m", "backbone": "b", "size": 1, "batch": 2, "steps": 3}', "config.json is that of another program"),
        ("{", "config.json is damaged"),
        ("[1]", "config.json is damaged"),
        ("\udcff", "config.json is damaged"),
    ],
)
def test_other_programs_folders_are_left(tmp_path, capsys, config, words):
    (tmp_path / "config.json").write_bytes(config.encode("utf-8", "surrogateescape"))
    (tmp_path / "model.safetensors").write_text("weights")
    before = contents(tmp_path)
    assert main([*LEARN, str(tmp_path), "--overwrite"]) == 2
    assert words in capsys.readouterr().err
    assert contents(tmp_path) == before


def test_a_link_to_a_run_is_left(tmp_path, run, capsys):
    link, before = tmp_path / "link", contents(run)
    link.symlink_to(run, target_is_directory=True)
    assert main([*LEARN, str(link), "--overwrite"]) == 2
    assert "is a symbolic link" in capsys.readouterr().err
    assert contents(run) == before
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").symlink_to(run / "config.json")
    assert "config.json is a symbolic link" in foreign_reason(other)


def test_what_selfsight_has_not_written_stays(tmp_path, capsys):
    folder, disk = tmp_path / "run", tmp_path / "disk"
    assert main([*LEARN, str(folder)]) == 0
    (folder / "notes.txt").write_text("years of work")
    (folder / "measures").mkdir()
    (folder / "measures" / "scores.json").write_text("{}")
    disk.mkdir()
    (disk / "thesis.txt").write_text("years of work")
    (folder / "banks").symlink_to(disk, target_is_directory=True)
    capsys.readouterr()
    assert main([*LEARN, str(folder), "--overwrite", "--seed", "1"]) == 0
    assert "left" in (said := capsys.readouterr().err)
    assert "notes.txt" in said
    assert (folder / "notes.txt").read_text() == (disk / "thesis.txt").read_text() == "years of work"
    assert not (folder / "measures").exists()
    assert not (folder / "banks").exists()
    assert json.loads((folder / "config.json").read_text())["seed"] == 1


@pytest.mark.parametrize("name", ["metrics.jsonl", "export/config.json", "checkpoints/mine.pt"])
def test_a_new_run_replaces_no_file(tmp_path, capsys, name):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    for option in ([], ["--resume"]):
        assert main([*LEARN, str(tmp_path), *option]) == 2
        assert "is not a run" in capsys.readouterr().err
        assert file.read_text() == "mine"


def test_version_0_1_may_be_replaced():
    assert foreign_reason(Path(__file__).parents[1] / "fixtures" / "v0.1" / "run") == ""


def test_an_exported_page_replaces_exported_pages_only(tmp_path):
    store = object.__new__(ExplorerStore)
    store.pack = ()  # pyright: ignore[reportAttributeAccessIssue]
    site = tmp_path / "site"
    (site / "data").mkdir(parents=True)
    for name in ("index.html", "data/base.js"):
        (site / name).write_text("mine")
    (site / "thesis.txt").write_text("years of work")
    link = tmp_path / "link"
    link.symlink_to(site, target_is_directory=True)
    for folder in (site, link):
        with pytest.raises(UsageError, match="is not an exported page"):
            export_static_site(store, folder)
    assert (site / "thesis.txt").read_text() == "years of work"


def test_overwrite_replaces(tmp_path, whole):
    out = tmp_path / "run"
    run_training(request_for("simclr", seed=5), out, RunPolicy(progress=quiet))
    assert kept(out) != kept(whole("simclr"))
    run_training(request_for("simclr"), out, RunPolicy(overwrite=True, progress=quiet))
    assert kept(out) == kept(whole("simclr"))


def test_overwrite_deletes_only_runs(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="not empty and not a run"):
        run_training(request_for("simclr"), tmp_path, RunPolicy(overwrite=True, progress=quiet))
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_resume_and_overwrite_exclude_each_other(run, capsys):
    before = contents(run)
    assert main([*LEARN, str(run), "--resume", "--overwrite"]) == 2
    assert "--resume continues a run, and --overwrite replaces it." in capsys.readouterr().err
    assert contents(run) == before
