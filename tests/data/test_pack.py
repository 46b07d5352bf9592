import json
from pathlib import Path

import numpy as np
import pytest

from selfsight.core.errors import EnvironmentFault
from selfsight.data.pack import Pack, open_pack, pack_side, sample_sides
from selfsight.data.packed import PackedSource
from selfsight.data.readers.folder import FolderListing

from pictures import encoded, photograph


@pytest.fixture
def listing(tmp_path: Path) -> FolderListing:
    root = tmp_path / "pictures"
    root.mkdir()
    for number in range(12):
        (root / f"{number:02}.png").write_bytes(encoded(photograph(number, 60, 80)))
    return FolderListing(root, str(root))


def test_sides():
    assert [pack_side(size) for size in (32, 224, None)] == [43, 299, 299]


def only(folder: Path) -> Path:
    (found,) = (folder / "packs").iterdir()
    return found


@pytest.mark.parametrize("harm", ["short", "flipped", "no table", "half an index", "no index"])
def test_damage_is_detected_and_repaired(listing: FolderListing, tmp_path: Path, harm: str):
    cache = tmp_path / "c"
    rows = np.arange(12)
    whole = open_pack(listing, 40, cache=cache).read(rows)
    place = only(cache)
    content = (place / "pixels.bin").read_bytes()
    match harm:
        case "short":
            (place / "pixels.bin").write_bytes(content[:-100])
        case "flipped":
            (place / "pixels.bin").write_bytes(bytes([content[0] ^ 255]) + content[1:])
        case "no table":
            (place / "table.npy").unlink()
        case "half an index":
            (place / "pack.json").write_text((place / "pack.json").read_text()[:20])
        case _:
            (place / "pack.json").unlink()
    with pytest.raises((OSError, ValueError, KeyError)):
        Pack(place)
    np.testing.assert_array_equal(open_pack(listing, 40, cache=cache).read(rows), whole)
    assert only(cache) == place


def test_equal_sizes_have_no_extent(listing: FolderListing, tmp_path: Path):
    source = PackedSource(listing, 40, cache=tmp_path / "c")
    assert source.shape == (30, 40)
    assert source.read(np.arange(3)).extent is None


def test_jpeg_form_keeps_the_budget(listing: FolderListing, tmp_path: Path):
    raw = open_pack(listing, 40, cache=tmp_path / "c")
    small = open_pack(listing, 40, cache=tmp_path / "c", budget=12 * 3 * 30 * 40 - 1)
    assert (raw.form, small.form) == ("raw", "jpeg")
    assert len(small.bytes) < len(raw.bytes)
    difference = raw.read(np.arange(12)).astype(int) - small.read(np.arange(12)).astype(int)
    assert np.abs(difference).mean() < 4


def test_unwritable_cache_is_reported(listing: FolderListing, tmp_path: Path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(EnvironmentFault, match="SELFSIGHT_CACHE"):
        open_pack(listing, 40, cache=tmp_path / "file")


def test_a_failed_build_leaves_nothing(listing: FolderListing, tmp_path: Path):
    def stop(done: int, count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_pack(listing, 40, cache=tmp_path / "c", progress=stop)
    assert not list((tmp_path / "c" / "packs").iterdir())


def test_sample_sides_reads_headers(listing: FolderListing):
    assert (sample_sides(listing) == (60, 80)).all()


def test_index_names_bad_files(tmp_path: Path):
    root = tmp_path / "p"
    root.mkdir()
    for number in range(20):
        (root / f"{number:02}.png").write_bytes(encoded(photograph(number)) if number != 19 else b"")
    pack = open_pack(FolderListing(root, "p"), 40, cache=tmp_path / "c")
    assert pack.bad == [("19.png", "empty file")]
    assert pack.table[19, 6] == 0  # the last row wraps round to the first that can be read
    assert json.loads((pack.folder / "pack.json").read_text())["form"] == "raw"
