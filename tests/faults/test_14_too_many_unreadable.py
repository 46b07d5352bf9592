"""More than a tenth of the files unreadable, or all: an error before training that shows the first ten."""

import pytest

from selfsight.cli import main

from pictures import encoded, photograph


@pytest.mark.parametrize("good", [0, 20])
def test_too_many(tmp_path, capsys, monkeypatch, good):
    monkeypatch.setenv("SELFSIGHT_CACHE", str(tmp_path / "cache"))
    folder, out = tmp_path / "pictures", tmp_path / "run"
    folder.mkdir()
    for number in range(good):
        (folder / f"good{number:02}.png").write_bytes(encoded(photograph(number)))
    for number in range(13):
        (folder / f"bad{number:02}.jpg").write_bytes(b"nothing")
    words = ["learn", str(folder), "--size", "16", "--backbone", "resnet_tiny?width=4", "--batch", "8", "--steps", "2", "--device", "cpu"]
    assert main([*words, "--out", str(out)]) == 3
    error = capsys.readouterr().err
    assert f"More than a tenth of the {13 + good} images" in error
    assert [name in error for name in (f"bad{number:02}.jpg" for number in range(13))] == [True] * 10 + [False] * 3
    assert "Traceback" not in error
    assert not out.exists()
