import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from selfsight.core.errors import DataError, MissingExtra, UsageError
from selfsight.data.opening import open_source, parse, scan_once, typical_side
from selfsight.data.source import Subset

from pictures import encoded, photograph


def everything(source) -> np.ndarray:
    return np.arange(len(source))


def test_broken_folder(folder: Path, tmp_path: Path):
    source = open_source(folder, size=24, cache=tmp_path / "cache", replace_unreadable=True)
    assert len(source) == 101
    reasons = dict(source.bad)
    assert len(source.bad) == len(reasons) == 5
    assert {name.split("/")[-1].split(".")[0] for name in reasons} == {
        "truncated", "empty", "text", "bomb", "a 'quoted' \"name\"\nof two lines"
    }  # fmt: skip
    assert "too many pixels" in reasons["cat/bomb.png"]
    assert reasons["cat/empty.jpg"] == "empty file"
    names = list(source.names)
    assert {"cat/cmyk.jpg", "cat/sixteen.png", "cat/really a png.jpg"} <= set(names)
    row = names.index("cat/empty.jpg")
    after = next(place for place in range(row, len(names)) if names[place] not in reasons)
    shown = source.read(np.array([row, after]))
    np.testing.assert_array_equal(shown.images[0], shown.images[1])
    assert shown.index.tolist() == [row, after]
    truth = source.truth(np.array([row, after]))
    assert truth.labels is not None
    assert truth.labels[0] == truth.labels[1]
    assert truth.classes == ("cat", "dog")
    row = names.index("dog/000.png")
    np.testing.assert_array_equal(source.read(np.array([row])).images[0], photograph(0).transpose(2, 0, 1))
    without = open_source(folder, size=24, cache=tmp_path / "cache")
    assert list(without.names) == [name for name in names if name not in reasons]
    assert list(without.bad) == list(source.bad)
    row = list(without.names).index("dog/000.png")
    np.testing.assert_array_equal(without.read(np.array([row])).images[0], photograph(0).transpose(2, 0, 1))
    assert [value.tolist() for value in (without.read(np.array([0, 3])).index,)] == [[0, 3]]


def test_folder_is_read_from_its_pack_the_second_time(folder: Path, tmp_path: Path):
    calls: list[tuple[int, int]] = []
    first = open_source(folder, size=24, cache=tmp_path / "c", progress=lambda *at: calls.append(at))
    assert calls[-1] == (101, 101)
    calls.clear()
    second = open_source(folder, size=24, cache=tmp_path / "c", progress=lambda *at: calls.append(at))
    assert not calls
    assert list(second.bad) == list(first.bad)
    rows = everything(first)
    np.testing.assert_array_equal(first.read(rows).images, second.read(rows).images)
    again = pickle.loads(pickle.dumps(first))
    np.testing.assert_array_equal(first.read(rows).images, again.read(rows).images)
    (folder / "cat" / "new.png").write_bytes(encoded(photograph(900)))
    third = open_source(folder, size=24, cache=tmp_path / "c")
    assert third.fingerprint != first.fingerprint
    assert len(third) == 97


def test_too_many_unreadable_files(folder: Path, tmp_path: Path):
    for number in range(8):
        (folder / "cat" / f"bad{number}.jpg").write_bytes(b"nothing")
    with pytest.raises(DataError, match="tenth of the 109") as caught:
        open_source(folder, size=24, cache=tmp_path / "c")
    assert caught.value.exit_code == 3
    assert str(caught.value).count("\n  '") == 10


def test_missing_and_empty_folders(tmp_path: Path):
    with pytest.raises(DataError, match="empty"):
        open_source(tmp_path)
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / ".hidden.jpg").write_text("a")
    with pytest.raises(DataError, match=r"1 .*\.txt.*1 .*hidden|1 .*hidden.*1 .*\.txt"):
        open_source(tmp_path)
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match="Did you mean photos"):
        open_source(tmp_path / "photo")


def test_file_names_of_any_bytes(tmp_path: Path):
    root = tmp_path / "p"
    root.mkdir()
    for number, name in enumerate((b"caf\xe9.png", "猫.png".encode(), b"line\nbreak.png", b"<img onerror=x>.png")):
        Path(root, name.decode("utf-8", "surrogateescape")).write_bytes(encoded(photograph(number)))
    source = open_source(root, cache=tmp_path / "c")
    assert len(source.read(everything(source)).images) == 4
    assert "\n".join(source.names).encode().decode()
    assert r"caf\xe9.png" in source.names


def test_ragged_photographs(tmp_path: Path):
    root = tmp_path / "p"
    root.mkdir()
    sizes = [(30, 90), (90, 30), (20, 10)]
    for number, size in enumerate(sizes):
        (root / f"{number}.png").write_bytes(encoded(photograph(number, *size)))
    source = open_source(root, size=36, cache=tmp_path / "c")
    batch = source.read(everything(source))
    assert batch.images.shape == (3, 3, 48, 48) == (3, 3, *source.shape)
    assert batch.extent is not None
    assert batch.extent.tolist() == [[16, 48], [48, 16], [20, 10]]
    assert not batch.images[0, :, 16:].any()
    np.testing.assert_array_equal(batch.images[2, :, :20, :10], photograph(2, 20, 10).transpose(2, 0, 1))
    assert typical_side(root) == 30


def test_tar(tmp_path: Path):
    for shard in range(2):
        with tarfile.open(tmp_path / f"part-{shard}.tar", "w") as archive:
            for number in range(3):
                parts = {"png": encoded(photograph(10 * shard + number)), "cls": str(number).encode()}
                parts["json"] = json.dumps({"licence": "cc0" if number else "unknown"}).encode()
                for ending, content in parts.items():
                    member = tarfile.TarInfo(f"a/{number}.{ending}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    source = open_source(f"{tmp_path}/part-*.tar", cache=tmp_path / "c")
    truth = source.truth(everything(source))
    assert truth.labels is not None
    assert truth.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert source.names[4] == "part-1.tar/a/1.png"
    np.testing.assert_array_equal(source.read(np.array([4])).images[0], photograph(11).transpose(2, 0, 1))
    assert len(open_source(f"{tmp_path}/part-*.tar?where=licence=cc0", cache=tmp_path / "c")) == 4
    (tmp_path / "broken.tar").write_bytes(b"no tar")
    with pytest.raises(DataError, match="tar archive"):
        open_source(tmp_path / "broken.tar")


def table(path: Path, rows: range, *, nested: bool = False, metadata: dict[str, str] | None = None) -> None:
    pictures = [encoded(photograph(row)) for row in rows]
    column = [{"bytes": picture, "path": None} for picture in pictures] if nested else pictures
    made = pa.table({"image": column, "label": [row % 3 for row in rows], "licence": ["cc0" if row % 2 else "by" for row in rows]})
    pq.write_table(made.replace_schema_metadata(metadata), path, row_group_size=4)


def test_parquet(tmp_path: Path):
    table(tmp_path / "0.parquet", range(10), metadata={"classes": "ant,bee,cat"})
    table(tmp_path / "1.parquet", range(10, 17), metadata={"classes": "ant,bee,cat"})
    source = open_source(f"{tmp_path}/*.parquet", cache=tmp_path / "c")
    truth = source.truth(np.array([16, 3]))
    assert truth.labels is not None
    assert truth.classes == ("ant", "bee", "cat")
    assert truth.labels.tolist() == [1, 0]
    assert truth.attributes["licence"].tolist() == ["by", "cc0"]
    np.testing.assert_array_equal(source.read(np.array([16])).images[0], photograph(16).transpose(2, 0, 1))
    features = {"info": {"features": {"label": {"names": ["x", "y", "z"], "_type": "ClassLabel"}}}}
    table(tmp_path / "hf.pq", range(5), nested=True, metadata={"huggingface": json.dumps(features)})
    assert open_source(tmp_path / "hf.pq", cache=tmp_path / "c").truth(np.array([0])).classes == ("x", "y", "z")
    table(tmp_path / "plain.pq", range(5))
    assert open_source(tmp_path / "plain.pq", cache=tmp_path / "c").truth(np.array([0])).classes == ("0", "1", "2")
    assert len(open_source(tmp_path / "0.parquet", where="licence=cc0,label=bee", cache=tmp_path / "c")) == 2
    pq.write_table(pa.table({"words": ["a"]}), tmp_path / "words.parquet")
    with pytest.raises(DataError, match="no image column"):
        open_source(tmp_path / "words.parquet")


def test_limit_is_drawn_by_the_seed(tmp_path: Path):
    table(tmp_path / "0.parquet", range(40))
    first, second, other = (
        open_source(tmp_path / "0.parquet", limit=9, seed=seed, cache=tmp_path / name) for seed, name in ((1, "a"), (1, "b"), (2, "a"))
    )
    assert list(first.names) == list(second.names) != list(other.names)
    assert first.fingerprint == second.fingerprint != other.fingerprint
    assert len(first) == 9
    np.testing.assert_array_equal(first.read(everything(first)).images, second.read(everything(first)).images)
    assert first.read(np.array([8])).index.tolist() == [8]
    digits = open_source("digits", limit=100, seed=3)
    assert isinstance(digits, Subset)
    labels = digits.truth(everything(digits)).labels
    assert labels is not None
    assert len(set(labels.tolist())) == 10
    assert len(open_source("digits", limit=10**6)) == 1797


def test_digits_and_photographs():
    train, test = open_source("digits?split=train"), open_source("digits?split=test")
    assert len(train) + len(test) == 1797
    assert train.read(np.array([0])).images.shape == (1, 3, 32, 32)
    source = open_source("photo:astronaut?count=50", size=24)
    rows = np.array([3, 7])
    first = source.read(rows).images
    assert first.shape == (2, 3, 32, 32)
    assert (first[0] != first[1]).any()
    np.testing.assert_array_equal(first, open_source("photo:astronaut?count=9", size=24).read(rows).images)
    whole = open_source("photo:coffee?count=5&crop=false").read(np.array([0, 4])).images
    np.testing.assert_array_equal(whole[0], whole[1])


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("wrold:shapes", "world:shapes"),
        ("photo:astronout", "astronaut"),
        ("world:shapes?preset=shortcuts", "shortcut"),
        ("world:shapes?cuont=3", "count"),
        ("world:shapes?count=many", "whole number"),
        ("world:forms", "world:shapes"),
        ("digits?split=half", "train, test"),
        ("torchvision:CIFAR1", "CIFAR10"),
        ("torchvision:CIFAR10?rooot=x", "root"),
    ],
)
def test_misspelt(spec: str, hint: str):
    with pytest.raises(UsageError, match=hint) as caught:
        open_source(spec)
    assert caught.value.exit_code == 2


def test_specs_are_parsed():
    assert parse("world:shapes?preset=many&count=3").options == {"preset": "many", "count": "3"}
    assert parse("shards/part-00?.tar").name == "shards/part-00?.tar"
    assert parse("a/*.tar?where=licence=cc0,people=0").options == {"where": "licence=cc0,people=0"}


def test_downloads_must_be_requested(tmp_path: Path):
    with pytest.raises(DataError, match="download=true"):
        open_source(f"torchvision:CIFAR10?root={tmp_path}")


def test_hub_needs_its_extra():
    try:
        import datasets  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtra, match=r"selfsight\[hub\]"):
            open_source("hf:nobody/nothing")


@pytest.mark.shared
def test_cifar(shared: Path, tmp_path: Path):
    source = open_source(shared / "cifar10" / "train.parquet", limit=500, cache=tmp_path)
    assert source.shape == (32, 32)
    batch = source.read(everything(source))
    assert batch.extent is None
    labels = source.truth(everything(source)).labels
    assert labels is not None
    assert len(set(labels.tolist())) == 10


def packed_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def test_dots_in_names_of_a_tar_separate_no_samples(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    image = encoded(photograph(0))
    names = [f"photos/2024.05.{day:02d} beach {k}.png" for day in (1, 2, 3) for k in range(4)]
    names += [f"frames/video.{k:04d}.png" for k in range(5)]
    labels = {"photos/2024.05.01 beach 0.cls": b"sea", "frames/video.cls": b"film"}
    path = packed_tar(tmp_path / "photos.tar", dict.fromkeys(names, image) | labels | {"photos/list.bin": b"x"})
    source = open_source(path, size=16, cache=tmp_path / "c")
    assert list(source.names) == names
    truth = source.truth(np.arange(len(source)))
    assert truth.labels is not None
    assert truth.classes == ("film", "sea")
    assert truth.labels.tolist() == [1, *[-1] * 11, *[0] * 5]
    assert "1 file was skipped: 1 .bin" in caplog.text


def test_named_images_of_a_tar_are_one_sample(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    image, other = encoded(photograph(0)), encoded(photograph(1))
    members = {
        f"{number}.{name}": content for number in range(3) for name, content in (("input.png", image), ("target.png", other), ("cls", b"4"))
    }
    source = open_source(packed_tar(tmp_path / "pairs.tar", members), size=16, cache=tmp_path / "c")
    assert list(source.names) == ["0.input.png", "1.input.png", "2.input.png"]
    assert source.truth(np.arange(3)).classes == ("4",)
    assert "3 further images of a sample (target)" in caplog.text


def test_a_tar_that_ends_too_early_is_rejected(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = packed_tar(tmp_path / "all.tar", {f"{number}.png": encoded(photograph(number)) for number in range(8)})
    content = path.read_bytes()
    assert len(open_source(path, size=16, cache=tmp_path / "c")) == 8
    with tarfile.open(path) as archive:
        member = archive.getmembers()[5]
    for length in (member.offset_data + member.size // 2, member.offset + 300, 700):
        (tmp_path / "half.tar").write_bytes(content[:length])
        with pytest.raises(DataError, match=r"ends too early|unexpected end of data"):
            open_source(tmp_path / "half.tar", size=16, cache=tmp_path / "c")
    (tmp_path / "half.tar").write_bytes(content[: member.offset])
    assert len(open_source(tmp_path / "half.tar", size=16, cache=tmp_path / "c")) == 5
    assert "half.tar has no end mark and may be incomplete" in caplog.text


def test_skipped_files_are_reported_once_with_a_remedy(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(encoded(photograph(0)))
    for name in (*(f"{k}.heic" for k in range(3)), "x.cr2", "film.mp4", "notes.txt", ".hidden", "none"):
        (folder / name).write_bytes(b"\0" * 40)
    with scan_once():
        open_source(folder, size=16, cache=tmp_path / "c")
        open_source(folder, size=16, cache=tmp_path / "c")
    (record,) = caplog.records
    first, second = record.getMessage().splitlines()
    assert first.endswith("photos: 6 files were skipped: 3 .heic, 1 .cr2, 1 .mp4, 1 files without an ending.")
    assert second.startswith("Convert .heic to JPEG, for example with heif-convert; develop .cr2 to")
    assert "ffmpeg" in second


def test_labels_and_numeric_options_of_torchvision(tmp_path: Path):
    assert len(open_source("torchvision:FakeData?size=20", size=16, cache=tmp_path / "c")) == 20
    base = tmp_path / "dtd" / "dtd"
    lines = [f"{name}/{name}_{k:04d}.jpg" for name in ("banded", "dotted") for k in range(4)]
    for line in lines:
        (base / "images" / line).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph(0)).save(base / "images" / line)
    (base / "labels").mkdir()
    for part in ("train", "val", "test"):
        (base / "labels" / f"{part}1.txt").write_text("\n".join(lines) + "\n")
    source = open_source(f"torchvision:DTD?root={tmp_path}&split=train&partition=1", size=16, cache=tmp_path / "c")
    truth = source.truth(np.arange(8))
    assert truth.labels is not None
    assert (truth.labels.tolist(), truth.classes) == ([0] * 4 + [1] * 4, ("banded", "dotted"))
    for options in ("split=nowhere", "partition=x"):
        with pytest.raises(UsageError, match="rejects these options"):
            open_source(f"torchvision:DTD?root={tmp_path}&{options}", size=16, cache=tmp_path / "c")
    with pytest.raises(DataError, match="is not below"):
        open_source(f"torchvision:VOCDetection?root={tmp_path}&year=2012", size=16, cache=tmp_path / "c")
