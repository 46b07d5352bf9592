"""Folders without images, unreadable sub-folders and loops of links: an end with counts by reason."""

import os

import pytest

from selfsight.cli import main
from selfsight.core.errors import DataError
from selfsight.data.opening import open_source

from pictures import encoded, photograph


def learn(folder, capsys) -> tuple[int, str]:
    code = main(["learn", str(folder), "--size", "16", "--steps", "1", "--out", "run"])
    return code, capsys.readouterr().err


def test_an_empty_folder(tmp_path, capsys):
    (tmp_path / "pictures").mkdir()
    code, error = learn(tmp_path / "pictures", capsys)
    assert code == 3
    assert "empty" in error


def test_other_files_are_counted_by_ending(tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.txt").write_text("a")
    (folder / "film.mp4").write_bytes(b"a")
    code, error = learn(folder, capsys)
    assert code == 3
    assert "3 .txt" in error.replace("x ", " ") or ("3" in error and ".txt" in error)
    assert ".mp4" in error


def test_loops_of_links_end(tmp_path, capsys):
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "up").symlink_to(folder)
    (folder / "self").symlink_to(folder / "self")
    (folder / "lost.jpg").symlink_to(folder / "nowhere.jpg")
    code, error = learn(folder, capsys)
    assert code == 3
    assert "links to a folder seen before" in error
    assert "broken links" in error
    (folder / "deep" / "one.png").write_bytes(encoded(photograph(1)))
    assert list(open_source(folder, size=16, cache=tmp_path / "cache").names) == ["deep/one.png"]


def test_unreadable_folders_are_counted(tmp_path, monkeypatch):
    """As another user would find it; the tests may be run by an administrator, who reads everything."""
    folder = tmp_path / "pictures"
    (folder / "private").mkdir(parents=True)
    scandir = os.scandir

    def forbidden(path):
        if str(path).endswith("private"):
            raise PermissionError(13, os.strerror(13))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    with pytest.raises(DataError, match=r"1 unreadable folders \(Permission denied\)|unreadable folders"):
        open_source(folder, size=16, cache=tmp_path / "cache")
