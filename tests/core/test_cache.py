"""What was worked out once is neither worked out again nor another than without keeping it."""

import numpy as np
import pytest
import torch

import selfsight
from selfsight.backbones.loading import load_representation, untrained
from selfsight.core.cache import DiskCache
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
    """Counts how many batches the network sees."""
    seen = []
    before = phi.backbone.forward
    monkeypatch.setattr(phi.backbone, "forward", lambda *given, **more: (seen.append(1), before(*given, **more))[1])
    return seen


def test_kept_eigenvectors_are_those_found_and_need_no_network(phi, scenes, tmp_path, monkeypatch):
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


def test_fewer_vectors_are_taken_from_what_is_kept_and_more_are_found(phi, scenes, tmp_path, monkeypatch):
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


def test_another_network_look_or_data_set_has_its_own(phi, scenes, tmp_path):
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
def test_a_search_that_was_broken_off_goes_on(phi, scenes, tmp_path, monkeypatch, refine):
    whole = find_objects(phi, scenes, "lost", refine=refine, least=0.0)

    def stop(words):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_objects(phi, scenes, "lost", refine=refine, least=0.0, rows=np.arange(16), cache=tmp_path, progress=stop)
    seen = passes(phi, monkeypatch)
    found = find_objects(phi, scenes, "lost", refine=refine, least=0.0, cache=tmp_path)
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


def test_a_write_that_is_broken_off_leaves_nothing(tmp_path):
    kept = DiskCache(tmp_path)

    def broken():
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        kept.get_or_compute("spectrum", (0, 1), broken)
    assert kept.read("spectrum", (0, 1)) is None
    np.testing.assert_array_equal(kept.get_or_compute("spectrum", (0, 1), lambda: {"a": np.arange(3)})["a"], np.arange(3))
