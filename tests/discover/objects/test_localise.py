"""Planted objects are localised exactly, and images without objects have none."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from selfsight.backbones.loading import load_representation
from selfsight.core.errors import UsageError
from selfsight.data.opening import open_source
from selfsight.discover.dense.features import FeatureBatch, FeatureSpec, iter_feature_batches
from selfsight.discover.objects.localise import attention, background, localise
from selfsight.discover.objects.table import LOCALISERS
from selfsight.measure.metrics.overlap import corloc

PHI = load_representation("untrained:resnet_tiny?width=8", size=32)
SHAPE = (12, 16)
FIRST, SECOND = (slice(2, 6), slice(3, 8)), (slice(8, 11), slice(10, 14))


def planted(*objects: tuple[slice, slice], apart: str = "orthogonal") -> FeatureBatch:
    """Locations of one direction, with objects of other directions."""
    features = torch.zeros(1, 8, *SHAPE)
    features[:, 0] = 1
    for number, (down, across) in enumerate(objects):
        features[0, :, down, across] = 0
        if apart == "orthogonal":
            features[0, number + 1, down, across] = 1
        else:
            features[0, 0, down, across] = -1
    return given(features)


def given(features: torch.Tensor | None = None, seen: torch.Tensor | None = None) -> FeatureBatch:
    pixels = torch.zeros(1, 3, 8 * SHAPE[0], 8 * SHAPE[1])
    pixels[:, :, :8] = 0.5  # flat images have no objects
    feature_batch = FeatureBatch(PHI, pixels, FeatureSpec())
    if features is not None:
        feature_batch.__dict__["features"] = features
    if seen is not None:
        feature_batch.__dict__["attention"] = seen
    return feature_batch


def box(down: slice, across: slice) -> tuple[int, int, int, int]:
    return across.start, down.start, across.stop, down.stop


@pytest.mark.parametrize("apart", ["orthogonal", "opposite"])
@pytest.mark.parametrize("method", ["fiedler", "lost", "cut", "mask_cut"])
def test_a_planted_object_is_found_to_the_cell(method, apart):
    (regions,) = localise(planted(FIRST, apart=apart), method)
    assert regions[0].box == box(*FIRST)
    assert regions[0].mask.sum() == 20
    assert regions[0].score > 0.9
    assert len(regions) == 1


def test_two_planted_objects_are_two_masks():
    (regions,) = localise(planted(FIRST, SECOND), "mask_cut")
    assert {region.box for region in regions} == {box(*FIRST), box(*SECOND)}
    assert not (regions[0].mask & regions[1].mask).any()


@pytest.mark.parametrize("common", [0.0, 3.0])
@pytest.mark.parametrize("method", ["cut", "mask_cut"])
def test_objects_are_found_whatever_all_locations_share(method, common):
    """A direction that all locations share lifts every cosine (here to 0.9) above the published thresholds."""
    feature_batch = planted(FIRST, SECOND, (slice(8, 11), slice(2, 5)))
    feature_batch.features[:, 7] = common
    (regions,) = localise(feature_batch, method)
    planted_boxes = {box(*FIRST), box(*SECOND), (2, 8, 5, 11)}
    assert {region.box for region in regions} == planted_boxes if method == "mask_cut" else regions[0].box in planted_boxes


def test_a_given_threshold_is_the_threshold():
    feature_batch = planted(FIRST)
    feature_batch.features[:, 7] = 3.0
    assert localise(feature_batch, "mask_cut", threshold=0.15) == [[]]  # as published: all locations are connected
    assert localise(feature_batch, "mask_cut", threshold=0.95)[0][0].box == box(*FIRST)


def test_objects_of_scenes_with_several_are_found_without_training():
    """Cosines between all locations of an untrained transformer are above 0.5: at the published threshold no object is found."""
    source = open_source("world:shapes?preset=many&size=96&split=test&count=24", size=96)
    phi = load_representation("untrained:vit_tiny", size=96)
    truth = source.truth(np.arange(24)).boxes
    assert truth is not None
    score = {}
    for threshold in (0.15, None):
        boxes = []
        for feature_batch in iter_feature_batches(phi, source, FeatureSpec(96)):
            found = localise(feature_batch, "mask_cut", threshold=threshold)
            boxes += [np.array([region.box for region in regions]).reshape(-1, 4) * 8 for regions in found]
        score[threshold] = corloc(boxes, list(truth)).value
    assert score[0.15] < 0.05
    assert score[None] > 0.4


@pytest.mark.parametrize("method", ["fiedler", "lost", "cut", "mask_cut"])
def test_uniform_images_have_no_object(method):
    assert localise(planted(), method) == [[]]


def test_attention_selects_the_object():
    seen = torch.full((1, 2, *SHAPE), 1e-4)
    seen[:, :, *FIRST] = 1.0
    feature_batch = given(planted(FIRST).features, seen / seen.sum((2, 3), keepdim=True))
    ((region,),) = attention(feature_batch, mass=0.99)
    assert region.box == box(*FIRST)
    ((wrong,),) = attention(feature_batch, mass=0.99, published=True)
    assert (wrong.mask == ~region.mask).all()


def test_the_background_seed_is_the_least_attended_location():
    """Heads attend to the object; the least attended location and similar ones are background."""
    seen = torch.full((1, 2, *SHAPE), 1e-3)
    seen[:, :, *SECOND] = 1.0
    seen[0, 0, 0, 0] = seen[0, 1, 0, 0] = 0.0
    features = torch.zeros(1, 8, *SHAPE)
    features[:, (0, 4)] = 1
    features[0, :, *SECOND] = 0
    features[0, (1, 5), *SECOND] = 1
    ((region,),) = localise(given(features, seen), "found")
    assert region.box == box(*SECOND)


def test_background_equals_the_formula():
    """Reference with loops: head weights, least attended location, cosines of weighted heads."""
    generator = torch.Generator().manual_seed(3)
    heads, dim, places = 3, 4, SHAPE[0] * SHAPE[1]
    seen = torch.rand(1, heads, places, generator=generator) ** torch.tensor([1.0, 4.0, 12.0])[:, None]
    seen = seen / seen.sum(2, keepdim=True)
    features = torch.randn(1, heads * dim, places, generator=generator) + 1.0
    wide = [sum(float(value) > float(seen[0, h].mean()) for value in seen[0, h]) / places for h in range(heads)]
    beta = [np.log(sum(wide) / one) for one in wide]
    assert max(beta) > 1.5 * min(beta)
    reference = int(np.argmin([sum(beta[h] * float(seen[0, h, p]) for h in range(heads)) for p in range(places)]))
    rows = [np.concatenate([beta[h] * features[0, h * dim : (h + 1) * dim, p].numpy() for h in range(heads)]) for p in range(places)]
    like = [row @ rows[reference] / np.linalg.norm(row) / np.linalg.norm(rows[reference]) for row in rows]
    object_ = np.array([one <= 0.3 for one in like]).reshape(SHAPE)
    pieces, count = ndimage.label(object_, np.ones((3, 3)))
    expected = pieces == 1 + int(np.argmax([np.sum(pieces == 1 + number) for number in range(count)]))
    ((region,),) = background(given(features.unflatten(2, SHAPE), seen.unflatten(2, SHAPE)))
    np.testing.assert_array_equal(region.mask, expected)


def test_a_side_with_the_corners_is_background():
    """The frame is smaller than its interior, so that its entries are larger; the corners decide."""
    inner = (slice(1, SHAPE[0] - 1), slice(1, SHAPE[1] - 1))
    ((framed, *_),) = localise(planted(inner), "mask_cut")
    assert framed.box == box(*inner)
    ((frame,),) = localise(planted(inner), "cut")
    assert frame.box == (0, 0, SHAPE[1], SHAPE[0])


def test_attention_requires_a_class_token():
    phi = load_representation("untrained:timm:test_vit3", size=32)
    assert phi.has_attention
    if getattr(phi.backbone, "prefix", 0) == 0:
        with pytest.raises(UsageError, match="no class token"):
            localise(FeatureBatch(phi, torch.zeros(1, 3, 32, 32)), "attention")


def test_baselines_do_not_use_the_representation():
    feature_batch = given()
    feature_batch.pixels[:] = 0
    feature_batch.pixels[:, 0, 20:40, 50:90] = 1.0
    ((middle,),) = localise(feature_batch, "centre")
    assert middle.mask.mean() == pytest.approx(0.5, abs=0.03)
    assert middle.box == (9, 9, 55, 55)
    ((red,),) = localise(feature_batch, "border")
    assert red.box == (50, 20, 90, 40)
    assert "features" not in feature_batch.__dict__


def test_objects_by_colour_affinity():
    """For equal features, the colour affinity separates locations."""
    feature_batch = FeatureBatch(PHI, torch.zeros(1, 3, 96, 128), FeatureSpec(colour=10.0))
    feature_batch.pixels[:, :, 16:48, 24:64] = 1.0
    feature_batch.__dict__["features"] = torch.ones(1, 8, *SHAPE)
    ((region,),) = localise(feature_batch, "fiedler")
    assert region.box == box(*FIRST)


def test_aliases_and_unknown_names():
    assert localise(planted(FIRST), "tokencut")[0][0].box == box(*FIRST)
    with pytest.raises(UsageError, match="no localiser 'tokencat'"):
        localise(planted(FIRST), "tokencat")
    with pytest.raises(UsageError, match="has no attention"):
        localise(planted(FIRST), "attention")
    assert list(LOCALISERS) == sorted(LOCALISERS)


def test_a_batch_equals_its_images_one_by_one():
    phi = load_representation("untrained:vit_nano", size=64)
    pixels = torch.rand(3, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    pixels[:, :, 20:40, 30:60] += 1
    for method in LOCALISERS:
        together = localise(FeatureBatch(phi, pixels), method, min_confidence=0.0)
        for row in range(3):
            (alone,) = localise(FeatureBatch(phi, pixels[row : row + 1]), method, min_confidence=0.0)
            assert len(alone) == len(together[row])
            for one, other in zip(alone, together[row], strict=True):
                assert np.mean(one.mask != other.mask) < 0.02
