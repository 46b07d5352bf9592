"""What was worked out once is neither worked out again nor another than without keeping it."""

import numpy as np
import pytest
import torch

import selfsight
from selfsight.backbones.loading import load_representation, untrained
from selfsight.core.cache import Kept
from selfsight.discover.dense.features import Look, looks
from selfsight.discover.objects.object_regions import find_objects
from selfsight.discover.segments.segment import segment_pictures


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
    look = Look(vectors=4)
    plain = [looked.spectrum for looked in looks(phi, scenes, look)]
    first = [looked.spectrum for looked in looks(phi, scenes, look, kept=tmp_path)]
    seen = passes(phi, monkeypatch)
    again = list(looks(phi, scenes, look, kept=tmp_path))
    for one, two, three in zip(plain, first, again, strict=True):
        assert torch.equal(one.vectors, two.vectors)
        assert torch.equal(one.vectors, three.spectrum.vectors)
        assert three.shape == (4, 4)
    assert not seen


def test_fewer_vectors_are_taken_from_what_is_kept_and_more_are_found(phi, scenes, tmp_path, monkeypatch):
    count = len([looked.spectrum for looked in looks(phi, scenes, Look(vectors=4), kept=tmp_path)])
    seen = passes(phi, monkeypatch)
    assert all(looked.spectrum.values.shape[1] == 3 for looked in looks(phi, scenes, Look(vectors=2), kept=tmp_path))
    assert not seen
    assert all(looked.spectrum.values.shape[1] == 7 for looked in looks(phi, scenes, Look(vectors=6), kept=tmp_path))
    assert len(seen) == count


def test_another_network_look_or_data_set_has_its_own(phi, scenes, tmp_path):
    other = untrained("resnet_tiny?width=8", seed=1)
    fewer = selfsight.open("world:shapes?count=16&size=48&split=train", size=48)
    for network, source, look in ((phi, scenes, Look()), (other, scenes, Look()), (phi, fewer, Look()), (phi, scenes, Look(size=64))):
        for looked in looks(network, source, look, kept=tmp_path):
            assert looked.spectrum.residual.max() < 1e-3
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("refine", [False, True])
def test_a_search_that_was_broken_off_goes_on(phi, scenes, tmp_path, monkeypatch, refine):
    whole = find_objects(phi, scenes, "lost", refine=refine, least=0.0)

    def stop(words):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_objects(phi, scenes, "lost", refine=refine, least=0.0, rows=np.arange(16), kept=tmp_path, say=stop)
    seen = passes(phi, monkeypatch)
    found = find_objects(phi, scenes, "lost", refine=refine, least=0.0, kept=tmp_path)
    assert len(seen) == 2, "16 of 40 pictures were there already"
    assert found.to_plain() == whole.to_plain()
    for row in range(len(scenes)):
        np.testing.assert_array_equal(found.mask(row), whole.mask(row))


def test_segments_are_the_same_with_and_without_a_folder(phi, scenes, tmp_path):
    plain = segment_pictures(phi, scenes, "spectral", kinds=3, segments=4, look=Look(vectors=4))
    for _ in range(2):
        kept = segment_pictures(phi, scenes, "spectral", kinds=3, segments=4, look=Look(vectors=4), kept=tmp_path)
        for one, two in zip(plain.maps, kept.maps, strict=True):
            np.testing.assert_array_equal(one, two)


def test_a_write_that_is_broken_off_leaves_nothing(tmp_path):
    kept = Kept(tmp_path)

    def broken():
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        kept.once("spectrum", (0, 1), broken)
    assert kept.read("spectrum", (0, 1)) is None
    np.testing.assert_array_equal(kept.once("spectrum", (0, 1), lambda: {"a": np.arange(3)})["a"], np.arange(3))
