"""Recipes: random parameters and views, independent of the split of the batch."""

from dataclasses import replace

import pytest
import torch
from skimage import data
from torch.testing import assert_close
from torchvision.transforms.v2 import functional as oracle

from selfsight.core.clock import Clock
from selfsight.core.errors import UsageError
from selfsight.core.method import Frame, Recipe
from selfsight.core.serialize import from_json, to_json
from selfsight.core.views import Images
from selfsight.data.views.image import buffers
from selfsight.data.views.image.blur import Blur
from selfsight.data.views.image.changes import Changed, pasted, patch_at, warped
from selfsight.data.views.image.colour import Jitter
from selfsight.data.views.image.damage import Holed, Noisy, Scrambled, full_image_with_noise
from selfsight.data.views.image.geometry import IMAGENET, Crop, Normalise
from selfsight.data.views.image.masks import Blocks, CutOut, RandomPatches, cut_out, inside
from selfsight.data.views.image.puzzles import Jigsaw, Neighbours, Overlapping, permutation_set
from selfsight.data.views.image.recipes import (
    BYOL_FIRST,
    BYOL_SECOND,
    SIMCLR,
    FourTurns,
    MultiCrop,
    OneCrop,
    TwoCrops,
    View,
    small_crops,
    small_multi_crop,
    small_one_crop,
)
from selfsight.data.views.keyed_random import KeyedRandom

EXACT = View(jitter=Jitter(exact=True), grey=0.2, blur=Blur(), cut=CutOut(), solarise=0.5, invert=0.5)
RECIPES = {
    "simclr": TwoCrops(),
    "byol": TwoCrops(BYOL_FIRST, BYOL_SECOND),
    "exact": TwoCrops(EXACT, SIMCLR),
    "small": small_crops(),
    "multi": MultiCrop(mask=Blocks(0.1, 0.5, p=0.5), count=2),
    "small multi": small_multi_crop(2),
    "one": OneCrop(mask=RandomPatches(), noise=5, sobel=True),
    "small one": small_one_crop(turn=0.5),
    "turns": FourTurns(),
    "jigsaw": Jigsaw(orders=8, gap=0.1),
    "neighbours": Neighbours(gap=0.1),
    "even jigsaw": Jigsaw(SIMCLR, across=2, orders=8, even=True),
    "even neighbours": Neighbours(gap=0.1, even=True),
    "noisy": Noisy(SIMCLR),
    "holed": Holed(SIMCLR, anywhere=True),
    "overlapping": Overlapping(SIMCLR, across=3, share=0.5),
    "even overlapping": Overlapping(SIMCLR, across=3, share=0.5, even=True),
    "puzzle and picture": Jigsaw(SIMCLR, across=2, orders=24, whole=True),
    "entire": full_image_with_noise(5),
    "scrambled": Scrambled(),
    "changed": Changed(SIMCLR),
}


def batch(n: int = 5) -> Images:
    photograph = torch.from_numpy(data.astronaut()[::4, ::4].copy()).permute(2, 0, 1)
    pixels = torch.stack([photograph.roll(9 * row, 2) for row in range(n)])
    extent = torch.tensor([[128, 128], [100, 128], [128, 70]])
    return Images(pixels, torch.arange(n), extent[torch.arange(n) % 3])


@pytest.mark.parametrize(("name", "size"), [*((name, 32) for name in RECIPES), ("multi", 96), ("exact", 96)])
def test_views_do_not_depend_on_the_batch_split(name: str, size: int) -> None:
    recipe: Recipe = RECIPES[name]
    images, frame = batch(), Frame(size, 8)
    drawn = recipe.draw(len(images), Clock(3, 4), frame)
    assert all(len(value) == len(images) for value in drawn.values.values())
    whole = recipe.make(images, drawn)
    for part in (slice(0, 3), slice(3, 4)):
        some = recipe.make(images.map(lambda rows, part=part: rows[part]), drawn.map(lambda rows, part=part: rows[part]))
        for one, other in zip(whole.large + whole.small, some.large + some.small, strict=True):
            assert torch.isfinite(one).all()
            assert torch.equal(one[part], other)
        for hint, value in whole.hints.items():
            assert torch.equal(value[part], some.hints[hint]), hint


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_data(name: str) -> None:
    recipe = RECIPES[name]
    assert from_json(to_json(recipe)) == recipe
    first, again, later = (recipe.draw(4, Clock(0, step), Frame(96, 8)) for step in (1, 1, 2))
    assert all(torch.equal(value, again.values[key]) for key, value in first.values.items())
    assert any(not torch.equal(value, later.values[key]) for key, value in first.values.items())


def test_views_and_operations_have_independent_random_streams() -> None:
    drawn = TwoCrops().draw(8, Clock(), Frame(32, 8)).values
    assert not torch.equal(drawn["0.area"], drawn["1.area"])
    fewer = TwoCrops(replace(SIMCLR, jitter=None), SIMCLR).draw(8, Clock(), Frame(32, 8)).values
    assert torch.equal(fewer["0.area"], drawn["0.area"])
    assert torch.equal(fewer["0.sigma"], drawn["0.sigma"])


@pytest.mark.parametrize("size", [32, 96])
def test_hints_say_how_a_view_was_made(size: int) -> None:
    images = batch()
    view = View(jitter=Jitter(0.2, 0.2, 0.2, 0.02), grey=0.2)
    recipe = TwoCrops(view, view)
    views = recipe.make(images, recipe.draw(len(images), Clock(8), Frame(size, 8)))
    assert images.extent is not None
    mean, std = (torch.tensor(value)[:, None, None] for value in (IMAGENET.mean, IMAGENET.std))
    for row in range(len(images)):
        for number, made in enumerate(views.large):
            height, width = images.extent[row].tolist()
            box = views.hints["crop"][row, number] * torch.tensor([width, height, width, height])
            left, top, right, bottom = box.round().int().tolist()
            plain_view = oracle.resized_crop(images.pixels[row] / 255, top, left, bottom - top, right - left, [size, size])
            plain_view = oracle.hflip(plain_view) if views.hints["flip"][row, number] else plain_view
            colour = views.hints["colour"][row, number]
            wanted = torch.einsum("ij,jhw->ihw", colour[:, :3], plain_view) + colour[:, 3, None, None]
            assert_close(made[row] * std + mean, wanted.clamp(0, 1), rtol=0, atol=1e-4)


def test_exact_pipeline_equals_torchvision() -> None:
    images = batch(4)
    recipe = OneCrop(View(jitter=Jitter(0.8, 0.8, 0.8, 0.2, p=1.0, exact=True), blur=Blur(1.0, 0.5, 1.5, 5)))
    drawn = recipe.draw(4, Clock(2), Frame(64, 8))
    views = recipe.make(images, drawn)
    assert images.extent is not None
    functions = (oracle.adjust_brightness, oracle.adjust_contrast, oracle.adjust_saturation, oracle.adjust_hue)
    for row in range(4):
        height, width = images.extent[row].tolist()
        left, top, right, bottom = (views.hints["crop"][row, 0] * torch.tensor([width, height, width, height])).round().int().tolist()
        view = oracle.resized_crop(images.pixels[row] / 255, top, left, bottom - top, right - left, [64, 64])
        view = oracle.hflip(view) if views.hints["flip"][row, 0] else view
        for what in drawn.values["0.order"][row].tolist():
            view = functions[what](view, drawn.values["0.factors"][row, what].item())
        view = oracle.gaussian_blur(view, [5, 5], [drawn.values["0.sigma"][row].item()])
        wanted = oracle.normalize(view, list(IMAGENET.mean), list(IMAGENET.std))
        assert_close(views.large[0][row], wanted, rtol=0, atol=2e-3)


def test_small_views_are_multiples_of_the_stride() -> None:
    assert MultiCrop().side(Frame(224, 16)) == 96
    assert MultiCrop().side(Frame(32, 8)) == 16
    assert MultiCrop().side(Frame(32, 32)) == 32
    assert small_multi_crop().side(Frame(32, 4)) == 16


def test_turns() -> None:
    views = FourTurns().make(batch(), FourTurns().draw(5, Clock(), Frame(32, 8)))
    assert torch.equal(torch.rot90(views.large[3], 1, (2, 3)), views.large[0])
    assert torch.equal(views.hints["turn"][0], torch.arange(4))


def test_rotated_views_are_rotations_of_upright_ones() -> None:
    upright, turning = small_crops(), small_crops(turn=0.75)
    images, frame = batch(60), Frame(32, 8)
    turned, still = (recipe.make(images, recipe.draw(60, Clock(seed=3), frame)) for recipe in (turning, upright))
    for view in range(2):
        for row, number in enumerate(turned.hints["quarters"][:, view].tolist()):
            assert torch.equal(turned.large[view][row], torch.rot90(still.large[view][row], number, (1, 2)))
    drawn = turning.draw(4000, Clock(), frame).values["0.quarters"]
    assert (drawn.bincount() / 4000 - 0.25).abs().max() < 0.03
    assert small_crops(turn=1.0).draw(50, Clock(), frame).values["1.quarters"].min() == 1


@pytest.mark.parametrize("jitter", [None, Jitter(), Jitter(exact=True)])
def test_negatives(jitter: Jitter | None) -> None:
    images, frame, unit = batch(), Frame(32, 8), Normalise((0.0,) * 3, (1.0,) * 3)
    positive, negative = (OneCrop(View(jitter=jitter, invert=p), normalise=unit) for p in (0.0, 1.0))
    first = positive.make(images, positive.draw(5, Clock(), frame))
    second = negative.make(images, negative.draw(5, Clock(), frame))
    assert_close(second.large[0], 1 - first.large[0], rtol=0, atol=1e-5)
    assert_close(second.hints["colour"][..., :3], -first.hints["colour"][..., :3])
    assert_close(second.hints["colour"][..., 3], 1 - first.hints["colour"][..., 3])


def test_masks_cover_their_fraction() -> None:
    hidden = RandomPatches(0.75).draw(KeyedRandom(50, Clock()), 8)
    assert (hidden.sum(1) == 48).all()
    hidden = Blocks(0.4, 0.4).draw(KeyedRandom(50, Clock()), 14)
    assert (hidden.sum(1) == round(0.4 * 196)).all()
    neighbours = (hidden.view(50, 14, 14)[:, :, 1:] == hidden.view(50, 14, 14)[:, :, :-1]).float().mean()
    assert neighbours > 0.75  # blocks hang together; single patches would give 0.52
    hidden = Blocks(0.1, 0.5, p=0.5).draw(KeyedRandom(400, Clock()), 14).float().mean(1)
    assert abs((hidden == 0).float().mean().item() - 0.5) < 0.1
    assert hidden[hidden > 0].min() >= 0.09
    assert hidden.max() <= 0.51


def test_cut_out() -> None:
    made = cut_out(torch.ones(2, 3, 8, 8), torch.tensor([[0.25, 0.5, 0.75, 1.0], [0.0, 0, 0, 0]]))
    assert made[0].sum() == 3 * (64 - 16)
    assert (made[0, :, 4:, 2:6] == 0).all()
    assert (made[1] == 1).all()


def test_puzzles() -> None:
    orders = permutation_set(32)
    assert torch.equal(orders.sort(1).values, torch.arange(9).expand(32, 9))
    apart = (orders[:, None] != orders[None]).sum(2) + 9 * torch.eye(32)
    assert apart.min() >= 6
    images, frame = batch(), Frame(96, 8)
    whole = OneCrop().make(images, OneCrop().draw(5, Clock(), frame)).large[0]
    puzzle = Jigsaw(orders=8).make(images, Jigsaw(orders=8).draw(5, Clock(), frame))
    assert len(puzzle.large) == 9
    assert puzzle.large[0].shape == (5, 3, 24, 24)
    for number, tile in enumerate(puzzle.large):
        place = int(puzzle.hints["order"][0, number])
        cell = whole[0, :, place // 3 * 32 : place // 3 * 32 + 32, place % 3 * 32 : place % 3 * 32 + 32]
        windows = cell.unfold(1, 24, 1).unfold(2, 24, 1)
        assert (windows == tile[0][:, None, None]).all(0).flatten(2).all(2).any()
    pair = Neighbours().make(images, Neighbours().draw(5, Clock(), frame))
    assert len(pair.large) == 2
    with pytest.raises(UsageError, match="stride"):
        Jigsaw(orders=8).make(images, Jigsaw(orders=8).draw(5, Clock(), Frame(32, 16)))


def test_normalised_tiles_have_equal_brightness() -> None:
    images, frame = batch(), Frame(96, 8)
    recipes = Jigsaw(orders=8, even=True), Neighbours(even=True), Overlapping(even=True)
    for recipe in recipes:
        for tile in recipe.make(images, recipe.draw(5, Clock(), frame)).large:
            assert_close(tile.mean((2, 3)), torch.zeros(5, 3), rtol=0, atol=1e-4)
            assert_close(tile.std((2, 3)), torch.ones(5, 3), rtol=0, atol=1e-2)


def test_noise_is_added_to_one_of_two_views() -> None:
    images, frame = batch(40), Frame(32, 8)
    damaged, clean = Noisy(deviation=0.3).make(images, Noisy(deviation=0.3).draw(40, Clock(), frame)).large
    assert clean.min() >= -1
    assert clean.max() <= 1
    assert abs(float((damaged - clean).std()) - 0.3) < 0.01
    assert abs(float((damaged - clean).mean())) < 0.01
    whole = Noisy(deviation=0.0)
    assert torch.equal(*whole.make(images, whole.draw(40, Clock(), frame)).large)


def test_buffers_are_reused_only_after_all_views_are_released() -> None:
    first = buffers.reuse_buffer(3, 1000)
    kept = first[1:2]
    first.fill_(1)
    address = first.data_ptr()
    del first
    assert buffers.reuse_buffer(3, 1000).fill_(2).data_ptr() != address
    assert (kept == 1).all()
    del kept
    addresses = {piece.data_ptr() for piece in [buffers.reuse_buffer(3000) for _ in range(3)]}
    assert address in addresses


def test_one_channel_and_floats() -> None:
    images = Images(torch.rand(5, 1, 28, 28), torch.arange(5))
    views = small_crops().make(images, small_crops().draw(5, Clock(), Frame(32, 8)))
    assert views.large[0].shape == (5, 1, 32, 32)
    assert views.hints["colour"].shape == (5, 2, 1, 2)


def test_holes_hide_a_square():
    images, frame = batch(40), Frame(32, 8)
    made = Holed(side=0.5, anywhere=True).make(images, Holed(side=0.5, anywhere=True).draw(40, Clock(), frame))
    damaged, clean = made.large
    hole = inside(clean, made.hints["hole"][:, 0])
    assert hole.flatten(1).sum(1).tolist() == [256] * 40
    assert torch.equal(damaged, torch.where(hole, 0.0, clean))
    assert len(made.hints["hole"].flatten(1).unique(dim=0)) == 40
    middle = Holed(side=0.5).make(images, Holed(side=0.5).draw(40, Clock(), frame)).hints["hole"]
    assert_close(middle[3, 0], torch.tensor([0.25, 0.25, 0.75, 0.75]))


def test_overlapping_tiles_cover_the_image():
    images, frame = batch(2), Frame(32, 8)
    recipe = Overlapping(across=3, share=0.5)
    drawn = recipe.draw(2, Clock(), frame)
    tiles = recipe.make(images, drawn).large
    assert [tile.shape for tile in tiles] == [(2, 3, 16, 16)] * 9
    (picture,) = OneCrop(recipe.view).make(images, OneCrop(recipe.view).draw(2, Clock(), frame)).large
    assert torch.equal(tiles[5], picture[:, :, 8:24, 16:32])
    assert torch.equal(tiles[0][:, :, 8:, 8:], tiles[4][:, :, :8, :8])


def test_a_puzzle_can_include_the_full_image():
    images, frame = batch(3), Frame(32, 4)
    alone, both = Jigsaw(across=2, orders=24), Jigsaw(across=2, orders=24, whole=True)
    tiles = alone.make(images, alone.draw(3, Clock(), frame)).large
    made = both.make(images, both.draw(3, Clock(), frame))
    assert all(torch.equal(one, other) for one, other in zip(made.small, tiles, strict=True))
    assert [view.shape for view in made.large] == [(3, 3, 32, 32)]


def test_scrambled_patches_are_noise_and_the_rest_is_the_view():
    images, frame = batch(6), Frame(32, 8)
    made = Scrambled().make(images, Scrambled().draw(6, Clock(), frame))
    for view in range(2):
        damaged, clean = made.large[view], made.large[view + 2]
        hidden = made.hints["mask"][:, view].view(6, 1, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
        assert torch.equal(damaged.masked_select(~hidden), clean.masked_select(~hidden))
        assert abs(float(damaged.masked_select(hidden).std()) - 1) < 0.1
        assert 0.4 < float(hidden.float().mean()) < 0.8
    assert made.hints["quarters"].shape == (6, 2)


def test_squares_are_cropped_and_pasted():
    images, corner = torch.randn(3, 2, 8, 8), torch.tensor([[0, 0], [2, 1], [4, 4]])
    square = patch_at(images, corner, 4)
    assert torch.equal(square[1], images[1, :, 1:5, 2:6])
    assert torch.equal(pasted(images, square, corner), images)
    made = pasted(images, torch.zeros_like(square), corner)
    assert made[2, :, 4:, 4:].abs().max() == 0
    assert torch.equal(made[2, :, :4], images[2, :, :4])


def test_warps_change_images_and_zero_displacement_does_not():
    images = batch(2).pixels[:, :, :32, :32] / 255
    assert_close(warped(images, torch.zeros(2, 2, 4, 4)), images, rtol=0, atol=1e-5)
    shift = torch.zeros(2, 2, 4, 4)
    shift[:, 0] = 2 * 3 / 32  # three pixels to the right, in halves of the side
    assert_close(warped(images, shift)[:, :, :, :28], images[:, :, :, 3:31], rtol=0, atol=1e-4)


def test_every_image_gets_one_of_six_transformations():
    images, frame = batch(200), Frame(32, 8)
    recipe = Changed(View(Crop((1.0, 1.0), (1.0, 1.0)), flip=0.0))
    made = recipe.make(images, recipe.draw(200, Clock(), frame))
    plain = OneCrop(recipe.view, normalise=recipe.normalise)
    (still,) = plain.make(images, plain.draw(200, Clock(), frame)).large
    kind, shown = made.hints["kind"][:, 0], made.large[0]
    assert torch.bincount(kind, minlength=6).min() > 15
    assert torch.equal(shown[kind < 2], still[kind < 2])
    for turn in (1, 2, 3):
        assert torch.equal(shown[kind == turn + 1], torch.rot90(still[kind == turn + 1], turn, (2, 3)))
    assert (shown[kind == 5] - still[kind == 5]).abs().flatten(1).amax(1).min() > 0.01
    coded = made.hints["coded"][:, 0]
    assert not coded[kind > 0].any()
    assert 0 < int(coded.sum()) < int((kind == 0).sum())
    assert made.hints["corner"].min() >= 0
    assert made.hints["corner"].max() <= 16
