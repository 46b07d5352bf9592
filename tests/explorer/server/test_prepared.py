"""Prepared data sets, and selections of items."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from selfsight.core.errors import DataError, UsageError
from selfsight.explorer.server.filters import filter_rows, inside_polygon
from selfsight.explorer.server.pack import Pack, PackWriter
from selfsight.explorer.server.store import ExplorerStore

from explorer_store import COUNT, NAMES, jpeg, make_pack


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    return make_pack(tmp_path_factory.mktemp("pack") / "pack")


def test_a_pack_is_read_as_written(pack):
    again = Pack(pack.path)
    assert len(again) == COUNT
    assert again.names.to_pylist()[: len(NAMES)] == NAMES
    assert again.thumb(3)[:3] == b"\xff\xd8\xff"
    assert again.thumb(3) != again.thumb(4)
    assert again.column("label")[:2].tolist() == ["red", "blue"]
    assert np.isnan(again.column("duplicates")[5])
    with pytest.raises(DataError, match="no image 40"):
        again.thumb(COUNT)
    with pytest.raises(UsageError, match="no column"):
        again.column("nothing")


def test_unknown_values_are_empty_text_or_nan(tmp_path):
    columns = {
        "shade": np.array(["red", None, "", "red"], object), "nothing": np.array([None] * 4, object),
        "yes": np.array([True, None, False, True], object), "size": np.array([3, 4, None, 2], object),
    }  # fmt: skip
    with PackWriter(tmp_path / "pack") as writer:
        writer.thumbs(iter([jpeg((0, 0, 0))] * 4))
        found = writer.finish(list("abcd"), columns, {"pca": np.zeros((4, 2), np.float32)}, {}, {"networks": []})
    assert found.column("shade").tolist() == ["red", "", "", "red"]
    assert found.column("nothing").tolist() == [""] * 4
    np.testing.assert_array_equal(found.column("yes"), [1.0, np.nan, 0.0, 1.0])
    np.testing.assert_array_equal(found.column("size"), [3.0, 4.0, np.nan, 2.0])
    about = {one.pop("name"): one for one in ExplorerStore(found, []).columns}
    assert about["shade"] == {"kind": "text", "values": ["", "red"], "counts": [2, 2]}
    assert about["size"] == {"kind": "number", "low": 2.0, "high": 4.0}


def test_the_most_frequent_texts_are_listed_first(tmp_path):
    texts = [f"text {number:03d}" for number in range(60) for _ in range(1 + (number >= 20))]
    with PackWriter(tmp_path / "pack") as writer:
        writer.thumbs(iter([jpeg((0, 0, 0))] * 100))
        names, columns = [str(row) for row in range(100)], {"kind": np.array(texts, object)}
        found = writer.finish(names, columns, {"pca": np.zeros((100, 2), np.float32)}, {}, {"networks": []})
    (told,) = ExplorerStore(found, []).columns
    assert told["values"] == [f"text {number:03d}" for number in [*range(20, 60), *range(10)]]
    assert told["counts"] == [2] * 40 + [1] * 10


def test_thumbnails_are_read_concurrently(pack):
    wanted = [jpeg((250, row, 0) if row % 2 == 0 else (0, row, 250)) for row in range(COUNT)]
    rows = np.random.default_rng(0).integers(0, COUNT, 2000).tolist()
    with ThreadPoolExecutor(16) as many:
        assert list(many.map(pack.thumb, rows)) == [wanted[row] for row in rows]


def test_an_interrupted_write_leaves_nothing(tmp_path):
    def broken():
        yield b"one"
        raise RuntimeError

    with PackWriter(tmp_path / "half") as writer, pytest.raises(RuntimeError):
        writer.thumbs(broken())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="nothing to explore"):
        Pack(tmp_path / "half")


def test_conditions_are_typed(pack):
    reds = filter_rows(pack, [{"column": "label", "sign": "=", "value": "red"}])
    assert (reds % 2 == 0).all()
    some = filter_rows(pack, [{"column": "brightness", "sign": ">=", "value": 0.5}, {"column": "label", "sign": "!=", "value": "red"}])
    assert some.tolist() == list(range(21, COUNT, 2))
    assert filter_rows(pack, [{"column": "name", "sign": "has", "value": "SNÖW"}]).tolist() == []
    assert filter_rows(pack, [{"column": "name", "sign": "has", "value": "ÜNÏ"}]).tolist() == [3]
    assert filter_rows(pack, sort="brightness", descending=True)[0] == COUNT - 1
    assert filter_rows(pack, sort="duplicates").tolist()[:2] == [0, 1]  # what is unknown comes last
    some = {"tag": np.array(["b", "", "a", "b"] + [""] * (COUNT - 4), object)}
    assert filter_rows(pack, sort="tag", extra=some).tolist()[:5] == [2, 0, 3, 1, 4]
    assert filter_rows(pack, sort="tag", descending=True, extra=some).tolist()[:5] == [0, 3, 2, 1, 4]  # equals stay in the data's order
    assert filter_rows(
        pack, extra={"tag": np.array(["x"] + [""] * (COUNT - 1), object)}, conditions=[{"column": "tag", "sign": "=", "value": "x"}]
    ).tolist() == [0]


@pytest.mark.parametrize(
    "condition",
    [
        {"column": "label", "sign": "=", "value": "x' OR 1=1 --"},
        {"column": "name", "sign": "has", "value": "(a+)+$" * 20},
    ],
)
def test_text_is_never_evaluated(pack, condition):
    before = time.perf_counter()
    assert filter_rows(pack, [condition]).tolist() == []
    assert time.perf_counter() - before < 1


@pytest.mark.parametrize(
    ("conditions", "more", "words"),
    [
        ([{"column": "1; drop table", "sign": "=", "value": 1}], {}, "no column"),
        ([{"column": "brightness", "sign": "or", "value": 1}], {}, "not an operator"),
        ([{"column": "brightness", "sign": "<", "value": "1"}], {}, "A numeric column"),
        ([{"column": "brightness", "sign": "<", "value": True}], {}, "A numeric column"),
        ([{"column": "label", "sign": "<", "value": "a"}], {}, "A text column"),
        ([{"column": "label", "sign": "has", "value": "a" * 999}], {}, "A text column"),
        ([{}] * 17, {}, "too many"),
        ([], {"sort": "nothing"}, "no column"),
        ([], {"lasso": [[0, 0], [1, 1]]}, "lasso is invalid"),
        ([], {"lasso": [[0, 0], [1, "x"], [0, 1]]}, "lasso is invalid"),
        ([], {"lasso": [[0, 0], [1, float("nan")], [0, 1]]}, "lasso is invalid"),
    ],
)
def test_invalid_arguments_are_rejected(pack, conditions, more, words):
    with pytest.raises(UsageError, match=words):
        filter_rows(pack, conditions, **more)


def test_a_lasso_selects_points_inside(pack):
    assert (filter_rows(pack, lasso=[[0, -2], [2, -2], [2, 2], [0, 2]]) % 2 == 1).all()
    points = np.random.default_rng(0).uniform(-1, 1, (500, 2))
    star = [[0, 1], [0.2, 0.2], [1, 0], [0.2, -0.2], [0, -1], [-0.2, -0.2], [-1, 0], [-0.2, 0.2]]
    from matplotlib.path import Path as Outline

    assert (inside_polygon(points, star) == Outline(star).contains_points(points)).all()
