"""Typed options take precedence over defaults of any image size; old names of options and backbones; one scan per folder."""

from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image

from selfsight.backbones.table import current_backbone
from selfsight.cli import main
from selfsight.cli.options import RENAMED, current_options, method_options
from selfsight.data.readers import folder as module
from selfsight.methods.table import method_class
from selfsight.workflows.train.config import resolve_options


def test_a_typed_value_is_kept_where_it_equals_the_default_of_small_images():
    _, options, training = resolve_options("simclr", size=32)
    rate = training.rate
    words = ["--dim", str(options.get("dim", 128)), "--training.rate", str(rate)]
    own, recipe = method_options(method_class("simclr"), options, training, words)
    assert own == {"dim": options.get("dim", 128)}
    assert recipe == {"rate": rate}
    _, chosen, large = resolve_options("simclr", size=224, options=own, training=recipe)
    assert large.rate == rate != resolve_options("simclr", size=224)[2].rate
    assert chosen["dim"] == own["dim"]


def test_what_was_not_typed_is_left_to_the_preset():
    _, options, training = resolve_options("simclr", size=224)
    own, recipe = method_options(method_class("simclr"), options, training, ["--temperature=0.3"])
    assert (own, recipe) == ({"temperature": 0.3}, {})
    assert asdict(resolve_options("simclr", size=32, options=own)[2]) == asdict(resolve_options("simclr", size=32)[2])


def test_learning_lists_its_folder_once(tmp_path, monkeypatch, capsys):
    (tmp_path / "images").mkdir()
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
    scans = []
    plain = module.FolderListing.__init__
    monkeypatch.setattr(module.FolderListing, "__init__", lambda self, *words: scans.append(words) or plain(self, *words))
    monkeypatch.setenv("SELFSIGHT_CACHE", str(tmp_path / "cache"))
    words = ["learn", str(tmp_path / "images"), "--steps", "2", "--batch", "4", "--backbone", "resnet_tiny?width=4", "--hidden", "16"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    assert len(scans) == 1
    assert "run:" in capsys.readouterr().err


@pytest.mark.parametrize(("verb", "old"), [(verb, old) for verb, names in RENAMED.items() for old in names])
def test_old_options_are_replaced_with_a_warning(verb, old, capsys):
    new = RENAMED[verb][old]
    assert current_options([old, "1", f"{old}=2", "--seed", old.removeprefix("--")], verb) == [new, "1", f"{new}=2", "--seed", old[2:]]
    warnings = capsys.readouterr().err.splitlines()
    assert warnings == [f"warning: {old} is now called {new}; the old name will be removed in the next release"] * 2
    assert current_options([new], verb) == [new]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("verb", "new"), [(verb, new) for verb, names in RENAMED.items() for new in names.values()])
def test_new_names_of_options_exist(verb, new, capsys):
    with pytest.raises(SystemExit):
        main([*verb.split(), "--help"])
    assert new.replace("--no-", "--") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "present"),
    [
        ("seen?of=resnet_tiny&see=12", "channels?network=resnet_tiny&keep=12"),
        ("split?of=resnet_tiny&first=0", "channel_split?network=resnet_tiny&first=0"),
        ("resnet18", "resnet18"),
    ],
)
def test_backbones_of_version_0_1_have_their_present_names(old, present):
    assert current_backbone(old) == present
