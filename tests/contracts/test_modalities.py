"""Training, banks and evaluation with images of any channels and bit depth, clips and sounds."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from selfsight.backbones.profile import multiply_adds, profile
from selfsight.backbones.table import build_backbone
from selfsight.bank.extract import get_bank
from selfsight.core.clock import Clock
from selfsight.core.errors import UsageError
from selfsight.core.method import Frame, Outcome, Recipe
from selfsight.core.representation import Representation, blank_input
from selfsight.core.views import Images
from selfsight.data.evaluation_view import central_view, central_window, evaluation_view
from selfsight.data.loader import Loader, load_images
from selfsight.data.readers.memory import StreamSource
from selfsight.data.source import Truth
from selfsight.data.views.clip.recipes import ClipView, TwoClips
from selfsight.data.views.image.geometry import Crop, CropGeometry, Normalise, resample
from selfsight.data.views.image.recipes import PLAIN, TwoCrops
from selfsight.data.views.keyed_random import KeyedRandom
from selfsight.data.views.sound.recipes import SoundView, TwoSounds
from selfsight.engine.fit import fit
from selfsight.engine.hardware import choose_hardware
from selfsight.engine.observe import Observer, StepEvent
from selfsight.engine.plan import Plan
from selfsight.methods.contrastive.simclr import SimCLR
from selfsight.workflows.evaluate.probes import evaluate

COUNT, CLASSES, SIZE = 96, 4, 16


@dataclass(frozen=True)
class Case:
    """A data set, a network, and a view recipe."""

    source: StreamSource
    backbone: str
    recipe: Recipe
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def multispectral() -> Case:
    """Stripes of four directions, strongest in two of five bands, 16 bits."""
    rng, labels = np.random.default_rng(0), np.arange(COUNT) % CLASSES
    down, across = np.mgrid[:20, :20]
    angles = labels * np.pi / CLASSES
    phase = np.cos(angles)[:, None, None] * across + np.sin(angles)[:, None, None] * down + rng.uniform(0, 6, (COUNT, 1, 1))
    bands = np.array([0.2, 1.0, 0.1, 0.8, 0.3])[:, None, None]
    values = 0.5 + 0.3 * bands * np.sin(phase)[:, None] + rng.normal(0, 0.05, (COUNT, 5, 20, 20))
    images = (values.clip(0, 1) * 65_535).astype(np.uint16)
    source = StreamSource({"image": images}, _truth(labels))
    return Case(source, "resnet_tiny?width=8", TwoCrops(PLAIN, PLAIN, Normalise((0.5,) * 5, (0.2,) * 5)), 5, (0.5,) * 5, (0.2,) * 5)


def clips() -> Case:
    """A disc that moves in four directions, with a loudness that accompanies it."""
    rng, labels = np.random.default_rng(1), np.arange(COUNT) % CLASSES
    step = np.array([(1, 0), (-1, 0), (0, 1), (0, -1)])[labels]
    start = rng.uniform(7, 13, (COUNT, 2))
    middle = start[:, None] + 1.5 * step[:, None] * (np.arange(6) - 3)[:, None]
    down, across = np.mgrid[:20, :20]
    inside = (down - middle[..., 0, None, None]) ** 2 + (across - middle[..., 1, None, None]) ** 2 < 9
    frames = np.where(inside[:, None], 220, 30).astype(np.uint8).repeat(3, 1)
    frames = (frames + rng.integers(0, 20, frames.shape)).astype(np.uint8)
    source = StreamSource({"clip": frames, "loudness": rng.normal(size=(COUNT, 6)).astype(np.float32)}, _truth(labels))
    view = ClipView(frames=6, crop=Crop((0.8, 1.0)), flip=0.0)
    return Case(source, "r3d_tiny?width=8", TwoClips(view, view, Normalise((0.2,) * 3, (0.3,) * 3)), 3, (0.2,) * 3, (0.3,) * 3)


def sounds() -> Case:
    """Log-mel spectrograms of tones in four bands."""
    rng, labels = np.random.default_rng(2), np.arange(COUNT) % CLASSES
    power = rng.exponential(0.01, (COUNT, 1, 16, 24))
    for row, label in enumerate(labels):
        power[row, 0, 4 * label : 4 * label + 2] += 1 + 0.5 * np.sin(np.arange(24) + rng.uniform(0, 6))
    source = StreamSource({"sound": np.log(power + 1e-3).astype(np.float32)}, _truth(labels))
    return Case(source, "spectrogram_tiny?width=8", TwoSounds(normalise=Normalise((-4.0,), (2.0,))), 1, (-4.0,), (2.0,))


def _truth(labels: np.ndarray) -> Truth:
    return Truth(labels=labels.astype(np.int64), classes=tuple("abcd"))


class Losses(Observer):
    """Records the loss of every step, and the streams of the method's input."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_step(self, event: StepEvent) -> None:
        self.values.append(sum(event.losses.values()))


class Companied(SimCLR):
    """SimCLR that records the streams of its views."""

    def forward(self, views, clock) -> Outcome:
        self.seen = {name: tuple(values.shape) for name, values in views.streams.items()}
        assert all(len(values) == len(views) for values in views.streams.values())
        return super().forward(views, clock)


@pytest.mark.parametrize("make", [multispectral, clips, sounds])
def test_training_bank_and_scores_of_every_modality(make, tmp_path):
    case = make()
    torch.manual_seed(0)
    backbone = build_backbone(case.backbone, size=SIZE, channels=case.channels)
    assert backbone.modality == case.source.modality
    method = Companied(backbone, recipe=case.recipe, temperature=0.2)
    loader = Loader(case.source, batch=32, seed=0)
    plan = Plan(0, 10, loader.batch, method.small.training, Frame(SIZE, backbone.stride, case.channels))
    losses = Losses()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    fit(method, loader, plan, choose_hardware("cpu", "fp32"), [losses])
    assert len(losses.values) == 10
    assert np.isfinite(losses.values).all()
    assert min(losses.values[-3:]) < losses.values[0]
    assert any(not torch.equal(value, before[name]) for name, value in backbone.named_parameters())
    assert method.seen == ({"loudness": (32, 6)} if make is clips else {})

    phi = Representation(backbone, mean=case.mean, std=case.std, size=SIZE, spec=case.backbone)
    bank = get_bank(phi, case.source, tmp_path, layers=backbone.layers[-2:])
    assert bank.pooled().shape == (COUNT, backbone.dim)
    rows = np.array([3, 50])
    with torch.no_grad():
        direct, inner = phi.pooled_layers(evaluation_view(case.source, phi)(rows), backbone.layers[-2:])
    np.testing.assert_allclose(bank.pooled()[rows], direct.numpy(), rtol=1e-4, atol=1e-5)
    for layer, values in inner.items():
        np.testing.assert_allclose(bank.pooled(layer)[rows], values.numpy(), rtol=1e-4, atol=1e-5)

    found = evaluate(phi, case.source, case.source, probes=["knn", "linear", "geometry"])
    assert set(found.baselines) == {"untrained", "pixels"}
    assert found.scores["knn"]["top1"].value > 0.4  # chance is 0.25
    assert np.isfinite([score.value for scores in found.scores.values() for score in scores.values()]).all()


def test_sixteen_bits_keep_their_depth():
    images = np.arange(2 * 5 * 4 * 4, dtype=np.uint16).reshape(2, 5, 4, 4) * 400
    read = load_images(StreamSource({"image": images}), np.arange(2))
    np.testing.assert_allclose(read.pixels.numpy() * 65_535, images, rtol=1e-6)


def test_all_frames_of_a_clip_have_one_crop():
    frame = np.random.default_rng(0).integers(0, 255, (4, 3, 1, 20, 24)).astype(np.uint8)
    still = Images(torch.from_numpy(frame.repeat(5, 2)), torch.arange(4), modality="clip")
    recipe = TwoClips()
    views = recipe.make(still, recipe.draw(4, Clock(seed=3, step=1), Frame(16, 1))).large
    for view in views:
        assert view.shape == (4, 3, 5, 16, 16)
        assert torch.allclose(view, view[:, :, :1].expand_as(view))
    assert not torch.allclose(views[0], views[1])
    central = central_view(still, 16)
    alone = central_view(Images(torch.from_numpy(frame[:, :, 0]), torch.arange(4)), 16)
    assert torch.allclose(central[:, :, 2], alone)


def test_a_view_of_a_clip_is_the_same_view_of_each_of_its_frames():
    rng = torch.Generator().manual_seed(5)
    clips = torch.randint(0, 256, (6, 3, 9, 20, 24), generator=rng, dtype=torch.uint8)
    view = ClipView(frames=4)
    drawn = view.draw(KeyedRandom(6, Clock(seed=2, step=7)))
    made = view.make(Images(clips, torch.arange(6), modality="clip"), drawn, 16)
    assert drawn["flip"].unique().numel() == 2
    firsts = (drawn["start"] * (9 - 4 + 1)).floor().long().tolist()
    assert len(set(firsts)) > 2
    boxes = view.crop.boxes(drawn["area"], drawn["ratio"], drawn["place"], torch.tensor([20, 24]).expand(6, 2))
    for row, first in enumerate(firsts):
        frames = clips[row, :, first : first + 4].transpose(0, 1).contiguous()  # as four images
        placing = CropGeometry(boxes[row : row + 1].expand(4, 4), drawn["flip"][row : row + 1].expand(4))
        bright, contrast = drawn["light"][row]
        expected = resample(frames, placing, 16) / 255 * bright
        expected = (expected.mean() + (expected - expected.mean()) * contrast).clamp(0, 1)
        torch.testing.assert_close(made[row].transpose(0, 1), expected, rtol=1e-4, atol=1e-5)


def test_the_evaluation_view_keeps_the_order_of_frames_and_samples():
    clips = torch.arange(4 * 5, dtype=torch.float32).reshape(4, 1, 5, 1, 1).expand(4, 1, 5, 12, 12) / 20
    view = central_view(Images(clips.contiguous(), torch.arange(4), modality="clip"), 8)
    torch.testing.assert_close(view, clips[..., :8, :8].contiguous())
    images = clips[:, :, 0].contiguous()
    torch.testing.assert_close(central_view(Images(images, torch.arange(4)), 8), images[..., :8, :8].contiguous())


def test_a_view_of_a_sound_is_a_window_with_a_gain_and_masks():
    sounds = torch.randn(8, 2, 10, 30, generator=torch.Generator().manual_seed(1))
    view = SoundView(gain=0.7, time=0.3, mel=0.4)
    drawn = view.draw(KeyedRandom(8, Clock(seed=4, step=2)))
    made = view.make(Images(sounds, torch.arange(8), modality="sound"), drawn, 20)
    assert made.shape == (8, 2, 10, 20)
    for row in range(8):
        first = math.floor(float(drawn["start"][row]) * (30 - 20 + 1))
        expected = sounds[row, :, :, first : first + 20] + drawn["gain"][row]
        mean = expected.mean()
        wide, left, tall, low = drawn["masks"][row].tolist()
        width, height = math.floor(wide * 0.3 * 20), math.floor(tall * 0.4 * 10)
        expected = expected.clone()
        at, bottom = math.floor(left * (20 - width + 1)), math.floor(low * (10 - height + 1))
        expected[:, :, at : at + width] = mean
        expected[:, bottom : bottom + height] = mean
        torch.testing.assert_close(made[row], expected, rtol=1e-5, atol=1e-5)
    assert drawn["gain"].std() > 0.3


def test_a_network_rejects_another_modality():
    phi = Representation(build_backbone("resnet_tiny?width=8", size=16), mean=(0.5,) * 3, std=(0.5,) * 3, size=16)
    with pytest.raises(UsageError, match="takes images with 4 dimensions, and the data have 5"):
        phi.pooled(torch.rand(2, 3, 4, 16, 16))
    clips = Representation(build_backbone("r3d_tiny?width=8", size=16), mean=(0.5,) * 3, std=(0.5,) * 3, size=16)
    with pytest.raises(UsageError, match="r3d_tiny for clips"):
        clips.pooled(torch.rand(2, 3, 16, 16))


@pytest.mark.parametrize("name", ["r3d_tiny?width=8", "spectrogram_tiny?width=8", "resnet_tiny?width=8"])
def test_networks_of_every_modality_are_profiled(name):
    backbone = build_backbone(name, size=16)
    found = profile(backbone, 16, batch=2, seconds=0.01)
    assert found.parameters == sum(weight.numel() for weight in backbone.parameters())
    dense = [module for module in backbone.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d)]
    counted = []
    handles = [
        module.register_forward_hook(lambda layer, _, out: counted.append(out[0].numel() * layer.weight[0].numel())) for module in dense
    ]
    backbone(blank_input(backbone, 16))
    for handle in handles:
        handle.remove()
    assert multiply_adds(backbone, 16) == sum(counted) > 0


def test_training_rejects_another_modality():
    case = multispectral()
    method = SimCLR(build_backbone("r3d_tiny?width=8", size=SIZE), recipe=TwoClips())
    plan = Plan(0, 1, 32, method.small.training, Frame(SIZE, 16, 3))
    with pytest.raises(UsageError, match="The data are images, and the network takes clips"):
        fit(method, Loader(case.source, batch=32, seed=0), plan, choose_hardware("cpu", "fp32"))


def test_short_sounds_are_padded_and_long_ones_cut():
    sounds = torch.arange(2 * 3 * 8, dtype=torch.float32).reshape(2, 1, 3, 8)
    assert torch.equal(central_window(sounds, 4), sounds[..., 2:6])
    padded = central_window(sounds, 12)
    assert torch.equal(padded[..., 2:10], sounds)
    assert torch.equal(padded[..., 0], sounds.amin((1, 2, 3))[:, None, None].expand(2, 1, 3))


def test_masks_of_sounds_are_spans_of_the_given_length():
    view = SoundView(gain=0.0, time=0.5, mel=0.0)
    sounds = Images(torch.randn(64, 1, 6, 20), torch.arange(64), modality="sound")
    made = view.make(sounds, view.draw(KeyedRandom(64, Clock(seed=0, step=0))), 20)
    mean = sounds.pixels.mean((1, 2, 3), keepdim=True)
    hidden = (made == mean).all((1, 2))
    lengths = hidden.sum(1)
    assert lengths.max() <= 10
    assert lengths.float().mean().item() == pytest.approx(4.5, abs=1.2)
    edges = (hidden[:, 1:] != hidden[:, :-1]).sum(1)
    assert (edges <= 2).all()


def test_invalid_streams_are_rejected():
    with pytest.raises(UsageError, match="first stream"):
        StreamSource({"text": np.zeros((3, 4))})
    with pytest.raises(UsageError, match="4 dimensions"):
        StreamSource({"clip": np.zeros((3, 1, 8, 8), dtype=np.uint8)})
    with pytest.raises(UsageError, match="differ in length"):
        StreamSource({"image": np.zeros((3, 1, 8, 8), dtype=np.uint8), "flow": np.zeros((2, 4))})
