"""Edits of users, with their history."""

import pytest

from selfsight.core.errors import UsageError
from selfsight.explorer.server.edits import Edits


def test_edits_are_stored_undone_and_redone(tmp_path):
    edits = Edits(tmp_path / "edits.sqlite")
    assert edits.values("tag") == {}
    assert not (tmp_path / "edits.sqlite").exists()  # looking writes nothing
    edits.set("tag", [1, 2], "cat")
    edits.set("tag", [2, 3], "dog's \"; drop table said")
    assert edits.values("tag") == {1: "cat", 2: "dog's \"; drop table said", 3: "dog's \"; drop table said"}
    assert edits.undo() == "tag"
    assert edits.values("tag") == {1: "cat", 2: "cat"}
    assert edits.redo() == "tag"
    assert edits.values("tag")[3].startswith("dog")
    edits.set("tag", [1], "")
    assert 1 not in edits.values("tag")
    edits.close()
    again = Edits(tmp_path / "edits.sqlite")
    assert set(again.values("tag")) == {2, 3}
    assert [edit["of"] for edit in again.history()] == [1, 2, 2]
    assert [again.undo() for _ in range(4)] == ["tag", "tag", "tag", None]
    assert again.values("tag") == {}


def test_a_new_edit_discards_undone_edits(tmp_path):
    edits = Edits(tmp_path / "edits.sqlite")
    edits.set("note", [0], "one")
    edits.undo()
    edits.set("note", [0], "two")
    assert edits.redo() is None
    assert edits.values("note") == {0: "two"}


@pytest.mark.parametrize(
    ("kind", "subjects", "value"),
    [("sql", [1], "x"), ("tag", [], "x"), ("tag", [-1], "x"), ("tag", [True], "x"), ("tag", [1], "x" * 9999), ("tag", [1], "a\x00b")],
)
def test_invalid_edits_are_rejected(tmp_path, kind, subjects, value):
    edits = Edits(tmp_path / "edits.sqlite")
    with pytest.raises(UsageError):
        edits.set(kind, subjects, value)
    assert edits.history() == []
