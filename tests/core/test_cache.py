"""Cached results are reused, and equal to those without a cache."""

import errno
import hashlib
import os

import numpy as np
import pytest
import torch

import selfsight
from selfsight.backbones.loading import load_representation, untrained
from selfsight.core.cache import AtomicFolder, DiskCache, cache_key, digest, digest_of, write_atomically
from selfsight.core.errors import EnvironmentFault
from selfsight.discover.dense.features import FeatureSpec, iter_feature_batches
from selfsight.discover.objects.object_regions import find_objects
from selfsight.discover.segments.segment import segment_images


@pytest.fixture(scope="module")
def phi():
    return load_representation("untrained:resnet_tiny?width=8", size=32)


@pytest.fixture(scope="module")
def scenes():
    return selfsight.open("world:shapes?count=40&size=48&split=test", size=48)


def passes(phi, monkeypatch):
    """Counts the batches that the network processes."""
    seen = []
    before = phi.backbone.forward
    monkeypatch.setattr(phi.backbone, "forward", lambda *given, **more: (seen.append(1), before(*given, **more))[1])
    return seen


def test_cached_eigenvectors_need_no_network(phi, scenes, tmp_path, monkeypatch):
    look = FeatureSpec(vectors=4)
    plain = [feature_batch.spectrum for feature_batch in iter_feature_batches(phi, scenes, look)]
    first = [feature_batch.spectrum for feature_batch in iter_feature_batches(phi, scenes, look, cache=tmp_path)]
    seen = passes(phi, monkeypatch)
    again = list(iter_feature_batches(phi, scenes, look, cache=tmp_path))
    for one, two, three in zip(plain, first, again, strict=True):
        assert torch.equal(one.vectors, two.vectors)
        assert torch.equal(one.vectors, three.spectrum.vectors)
        assert three.shape == (4, 4)
    assert not seen


def test_fewer_vectors_are_cached_and_more_are_computed(phi, scenes, tmp_path, monkeypatch):
    count = len([feature_batch.spectrum for feature_batch in iter_feature_batches(phi, scenes, FeatureSpec(vectors=4), cache=tmp_path)])
    seen = passes(phi, monkeypatch)
    assert all(
        feature_batch.spectrum.values.shape[1] == 3
        for feature_batch in iter_feature_batches(phi, scenes, FeatureSpec(vectors=2), cache=tmp_path)
    )
    assert not seen
    assert all(
        feature_batch.spectrum.values.shape[1] == 7
        for feature_batch in iter_feature_batches(phi, scenes, FeatureSpec(vectors=6), cache=tmp_path)
    )
    assert len(seen) == count


def test_cache_depends_on_network_features_and_data(phi, scenes, tmp_path):
    other = untrained("resnet_tiny?width=8", seed=1)
    fewer = selfsight.open("world:shapes?count=16&size=48&split=train", size=48)
    for network, source, look in (
        (phi, scenes, FeatureSpec()),
        (other, scenes, FeatureSpec()),
        (phi, fewer, FeatureSpec()),
        (phi, scenes, FeatureSpec(size=64)),
    ):
        for feature_batch in iter_feature_batches(network, source, look, cache=tmp_path):
            assert feature_batch.spectrum.residual.max() < 1e-3
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("refine", [False, True])
def test_an_interrupted_search_continues_from_the_cache(phi, scenes, tmp_path, monkeypatch, refine):
    whole = find_objects(phi, scenes, "lost", refine=refine, min_confidence=0.0)

    def stop(words):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_objects(phi, scenes, "lost", refine=refine, min_confidence=0.0, rows=np.arange(16), cache=tmp_path, progress=stop)
    seen = passes(phi, monkeypatch)
    found = find_objects(phi, scenes, "lost", refine=refine, min_confidence=0.0, cache=tmp_path)
    assert len(seen) == 2, "16 of 40 pictures were there already"
    assert found.to_json() == whole.to_json()
    for row in range(len(scenes)):
        np.testing.assert_array_equal(found.mask(row), whole.mask(row))


def test_segments_are_the_same_with_and_without_a_folder(phi, scenes, tmp_path):
    plain = segment_images(phi, scenes, "spectral", classes=3, segments=4, feature_spec=FeatureSpec(vectors=4))
    for _ in range(2):
        kept = segment_images(phi, scenes, "spectral", classes=3, segments=4, feature_spec=FeatureSpec(vectors=4), cache=tmp_path)
        for one, two in zip(plain.maps, kept.maps, strict=True):
            np.testing.assert_array_equal(one, two)


def test_an_interrupted_write_leaves_no_file(tmp_path):
    kept = DiskCache(tmp_path)

    def broken():
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        kept.get_or_compute("spectrum", (0, 1), broken)
    assert kept.read("spectrum", (0, 1)) is None
    np.testing.assert_array_equal(kept.get_or_compute("spectrum", (0, 1), lambda: {"a": np.arange(3)})["a"], np.arange(3))


def test_cached_regions_belong_to_their_minimum_confidence(phi, scenes, tmp_path):
    rows = np.arange(4)
    every = find_objects(phi, scenes, "lost", min_confidence=0.0, rows=rows, cache=tmp_path)
    none = find_objects(phi, scenes, "lost", min_confidence=1.1, rows=rows, cache=tmp_path)
    assert any(every.regions)
    assert not any(none.regions)


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_digest_is_sha_256_of_the_parts():
    assert digest(("ab", b"c"), separated=False, length=64) == hashlib.sha256(b"abc").hexdigest()
    lengths = [(2).to_bytes(8, "little"), (1).to_bytes(8, "little")]
    assert digest(("ab", b"c")) == hashlib.sha256(lengths[0] + b"ab" + lengths[1] + b"c").hexdigest()[:16]
    assert digest(("ab", "c")) != digest(("a", "bc"))
    assert digest(("\udcff",)) == digest((b"\xff",))  # file names in another encoding
    assert digest_of([1, "a"]) == hashlib.sha256(b"[1, 'a']").hexdigest()[:16]
    assert len(cache_key(1)) == 20
    assert cache_key(1, 2) != cache_key((1, 2))


@pytest.mark.parametrize("content", ["new ü", b"\x00new"])
def test_file_is_written_completely_or_not_at_all(tmp_path, monkeypatch, content):
    file = tmp_path / "folder" / "a.json"
    write_atomically(file, "old")
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(EnvironmentFault, match=r"No space.*needs \d bytes"):
            write_atomically(file, content)
    assert file.read_text() == "old"
    write_atomically(file, content)
    assert file.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert file.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in file.parent.iterdir()] == ["a.json"]


def test_folder_is_replaced_by_a_complete_one_only(tmp_path, monkeypatch):
    path = tmp_path / "bank"
    path.mkdir()
    (path / "old").touch()
    with AtomicFolder(path) as folder:
        (folder.partial / "new").touch()
    assert [file.name for file in path.iterdir()] == ["old"]
    flushed: list[int] = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    for flush in (False, True):
        with AtomicFolder(path) as folder:
            (folder.partial / "new").touch()
            assert folder.commit(flush=flush) == path
        assert bool(flushed) is flush
    assert [file.name for file in path.iterdir()] == ["new"]
    assert path.stat().st_mode & 0o777 == 0o755
    assert [file.name for file in tmp_path.iterdir()] == ["bank"]
