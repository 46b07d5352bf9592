"""View recipes: trees of frozen dataclasses that define how images become views.

The order of operations is that of the published pipelines: crop, flip, colour jitter, greyscale, blur, solarise, normalise. Blur is merged
into the crop, before colours: its weights sum to one and colour changes are affine per pixel, so the two commute exactly without clamping
(contrast then uses the mean of the blurred view).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Num
from torch import Tensor

from selfsight.core.clock import Clock
from selfsight.core.edges import sobel
from selfsight.core.method import Drawn, Frame
from selfsight.core.views import Images, Views
from selfsight.data.views.image.blur import Blur, gaussian_blur
from selfsight.data.views.image.colour import Chain, Jitter, chain, exact_chain, solarised
from selfsight.data.views.image.geometry import IMAGENET, Crop, CropGeometry, Normalise, extents, relative, resample, rotate, rotate_each
from selfsight.data.views.image.masks import CutOut, Mask, cut_out
from selfsight.data.views.keyed_random import KeyedRandom
from selfsight.data.views.pairs import draw_views, of_view

__all__ = [
    "BYOL_FIRST",
    "BYOL_SECOND",
    "DINO_FIRST",
    "DINO_SECOND",
    "DINO_SMALL",
    "MOCO",
    "PLAIN",
    "SIMCLR",
    "SIMCLR_SMALL",
    "SWAV_LARGE",
    "SWAV_SMALL",
    "FourTurns",
    "MultiCrop",
    "OneCrop",
    "TwoCrops",
    "View",
    "small_crops",
    "small_multi_crop",
    "small_one_crop",
]

_ANYWHERE = Crop()
_Block = Float[Tensor, "rows channel side side"]
_CROP, _FLIP, _JITTER, _GREY, _BLUR, _SOLARISE, _CUT, _MASK, _NOISE, _TURN, _INVERT = range(1, 12)


@dataclass(frozen=True)
class View:
    """Augmentation of one view.

    Attributes:
        crop: random resized crop.
        flip: probability of a horizontal flip.
        jitter: colour jitter; None: never.
        grey: probability of greyscale.
        blur: Gaussian blur; None: never.
        solarise: probability of solarisation.
        cut: filled square; None: never.
        turn: probability of a rotation by 90, 180 or 270 degrees, equally likely; for images without orientation.
        invert: probability of inverted colours, after other colour changes; for images whose polarity has no meaning.
    """

    crop: Crop = _ANYWHERE
    flip: float = 0.5
    jitter: Jitter | None = None
    grey: float = 0.0
    blur: Blur | None = None
    solarise: float = 0.0
    cut: CutOut | None = None
    turn: float = 0.0
    invert: float = 0.0

    def draw(self, random: KeyedRandom) -> dict[str, Tensor]:
        """Random parameters of this view for a global batch, one row per image."""
        drawn = self.crop.draw(random.at(_CROP))
        for salt, part in ((_JITTER, self.jitter), (_BLUR, self.blur), (_CUT, self.cut)):
            drawn |= part.draw(random.at(salt)) if part is not None else {}
        probabilities = ((_FLIP, "flip"), (_GREY, "grey"), (_SOLARISE, "solarise"), (_INVERT, "invert"))
        for salt, name in probabilities:
            p = getattr(self, name)
            drawn |= {name: random.at(salt).uniform() < p} if p else {}
        if self.turn:
            number = random.at(_TURN).uniform()
            drawn["quarters"] = torch.where(number < self.turn, (number / self.turn * 3).long().clamp(max=2) + 1, 0)
        return drawn

    def make(
        self, images: Images, drawn: Mapping[str, Tensor], size: int, normalise: Normalise
    ) -> tuple[Float[Tensor, "batch channel size size"], dict[str, Tensor]]:
        """Apply the augmentation.

        Args:
            images: a batch of images.
            drawn: parameters from ``draw``.
            size: side of the view in pixels.
            normalise: mean and standard deviation of the pixels.

        Returns:
            Normalised pixels (N, C, size, size) and hints, one row per image: ``crop``, ``flip``, ``quarters`` (right angles
            anticlockwise), ``colour``.
        """
        device = images.pixels.device
        drawn = {name: value.to(device) for name, value in drawn.items()}
        extent = extents(images)
        boxes = self.crop.boxes(drawn["area"], drawn["ratio"], drawn["place"], extent)
        flip, sigma = drawn.get("flip"), drawn.get("sigma")
        exact = self.jitter is not None and self.jitter.exact and images.pixels.shape[1] == 3
        placing = CropGeometry(boxes, flip, None if exact else sigma, self.blur.taps(size) if self.blur else 1)
        finishing = _Finishing(self, drawn, images, size, normalise)
        pixels = resample(images.pixels, placing, size, finishing.exactly if exact else finishing.at_once)
        pixels = cut_out(pixels, drawn["cut"]) if self.cut is not None else pixels
        flipped = torch.zeros(len(images), dtype=torch.bool, device=device) if flip is None else flip
        quarters = drawn["quarters"] if self.turn else torch.zeros(len(images), dtype=torch.long, device=device)
        pixels = rotate_each(pixels, quarters) if self.turn else pixels
        return pixels, {"crop": relative(boxes, extent), "flip": flipped, "quarters": quarters, "colour": finishing.affine()}


class _Finishing:
    """Applies colour changes and normalisation to blocks of a view as soon as they are resampled, and stores their mean colours."""

    def __init__(self, view: View, drawn: Mapping[str, Tensor], images: Images, size: int, normalise: Normalise) -> None:
        channels, device = images.pixels.shape[1], images.pixels.device
        self.view, self.drawn, self.kernel = view, drawn, view.blur.taps(size) if view.blur else 1
        self.full = 1.0 if images.pixels.is_floating_point() else 255.0
        self.mean, self.std = normalise.tensors(channels, device)
        self.low, self.high = -self.mean / self.std, (1 - self.mean) / self.std
        self.range = list(zip(self.low.tolist(), self.high.tolist(), strict=True))
        self.plain = "factors" not in drawn and "grey" not in drawn
        identity = torch.eye(channels, device=device).expand(len(images), -1, -1)
        self.chain = (
            Chain(identity, torch.zeros_like(identity), torch.zeros_like(identity[..., 0]))
            if self.plain
            else chain(drawn.get("factors"), drawn.get("order"), drawn.get("grey"), channels)
        )
        self.chain = self.chain.inverted(drawn["invert"]) if "invert" in drawn else self.chain
        scale = (self.full * self.std)[:, None]
        self.matrix, self.pull, self.shift = self.chain.matrix / scale, self.chain.pull / scale, self.chain.shift / self.std + self.low
        self.means: list[Tensor] = []

    def at_once(self, block: _Block, rows: slice, out: Tensor | None) -> _Block:
        """The composed chain and the normalisation as one product."""
        flat = block.flatten(2)
        offset = self.shift[rows, :, None]
        if not self.plain:
            mean = flat.mean(2, keepdim=True)
            self.means.append(mean / self.full)
            offset = torch.baddbmm(offset, self.pull[rows], mean)
        if out is None:
            made = torch.baddbmm(offset, self.matrix[rows], flat).view_as(block)
        else:
            torch.baddbmm(offset, self.matrix[rows], flat, out=out.view_as(flat))
            made = out
        if not self.plain:
            for channel, (low, high) in enumerate(self.range):
                made[:, channel].clamp_(low, high)
        return self._solarise(made, rows)

    def exactly(self, block: _Block, rows: slice, out: Tensor | None) -> _Block:
        """Torchvision's steps, one after the other."""
        block = (block / self.full).clamp_(0, 1)
        self.means.append(block.mean((2, 3))[..., None])
        grey = self.drawn.get("grey")
        block = exact_chain(block, self.drawn["factors"][rows], self.drawn["order"][rows], None if grey is None else grey[rows])
        if "invert" in self.drawn:
            block = torch.where(self.drawn["invert"][rows, None, None, None], 1 - block, block)
        if "sigma" in self.drawn and self.kernel > 1:
            block = gaussian_blur(block, self.drawn["sigma"][rows], self.kernel)
        made = self._solarise((block - self.mean[:, None, None]) / self.std[:, None, None], rows)
        return made if out is None else out.copy_(made)

    def _solarise(self, made: Tensor, rows: slice) -> Tensor:
        return solarised(made, self.drawn["solarise"][rows], self.low, self.high) if "solarise" in self.drawn else made

    def affine(self) -> Float[Tensor, "batch channel channel+1"]:
        """Matrix and offset that the (unclamped) chain applies to a colour in [0, 1]."""
        mean = torch.cat(self.means)[..., 0] if self.means else torch.zeros_like(self.chain.matrix[..., 0])
        return self.chain.affine(mean)


def _make(
    views: tuple[tuple[View, int], ...], images: Images, values: Mapping[str, Tensor], normalise: Normalise
) -> tuple[tuple[Tensor, ...], dict[str, Num[Tensor, "batch view ..."]]]:
    """Pixels of views of the given sides, and their hints with one entry per view."""
    made = [view.make(images, of_view(str(number), values), side, normalise) for number, (view, side) in enumerate(views)]
    hints = {name: torch.stack([parts[name] for _, parts in made], 1) for name in made[0][1]}
    return tuple(pixels for pixels, _ in made), hints


def _hidden(mask: Mask | None, n: int, clock: Clock, frame: Frame, views: int) -> dict[str, Tensor]:
    """Independent masks of the patches of ``views`` large views."""
    if mask is None:
        return {}
    side = frame.size // frame.stride
    return {"mask": torch.stack([mask.draw(KeyedRandom(n, clock, (view, _MASK)), side) for view in range(views)], 1)}


def _kept(values: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: values[name].to(device) for name in ("mask", "noise") if name in values}


PLAIN = View(Crop((0.2, 1.0)))
"""Crop and flip only, as in MAE (He et al. 2021, arXiv:2111.06377)."""

SIMCLR = View(Crop(), jitter=Jitter(0.8, 0.8, 0.8, 0.2), grey=0.2, blur=Blur(0.5))
"""SimCLR for ImageNet (Chen et al. 2020, arXiv:2002.05709)."""

SIMCLR_SMALL = View(Crop((0.2, 1.0)), jitter=Jitter(0.4, 0.4, 0.4, 0.1), grey=0.2)
"""For images of up to 96 pixels: weaker colour jitter, larger crops, no blur."""

MOCO = View(Crop((0.2, 1.0)), jitter=Jitter(0.4, 0.4, 0.4, 0.1), grey=0.2, blur=Blur(0.5))
"""MoCo v2 (Chen et al. 2020, arXiv:2003.04297), also SimSiam (arXiv:2011.10566) and PCL (arXiv:2005.04966), from the authors' code."""

SWAV_LARGE = replace(SIMCLR, crop=Crop((0.14, 1.0)))
SWAV_SMALL = replace(SIMCLR, crop=Crop((0.05, 0.14)))
"""The two large and six small views of SwAV (Caron et al. 2020, arXiv:2006.09882) and DeepCluster-v2, from the authors' code."""

BYOL_FIRST = View(Crop(), jitter=Jitter(0.4, 0.4, 0.2, 0.1), grey=0.2, blur=Blur(1.0))
BYOL_SECOND = replace(BYOL_FIRST, blur=Blur(0.1), solarise=0.2)
"""The two asymmetric views of BYOL (Grill et al. 2020, arXiv:2006.07733), also of Barlow Twins (arXiv:2103.03230)."""

DINO_FIRST = replace(BYOL_FIRST, crop=Crop((0.4, 1.0)))
DINO_SECOND = replace(BYOL_SECOND, crop=Crop((0.4, 1.0)))
DINO_SMALL = replace(BYOL_FIRST, crop=Crop((0.05, 0.4)), blur=Blur(0.5))
"""The two large and the small views of DINO (Caron et al. 2021, arXiv:2104.14294)."""


@dataclass(frozen=True)
class TwoCrops:
    """Two large views of each image.

    Hints, with one entry per view: ``crop`` (left, top, right, bottom as fractions), ``flip``, ``colour`` (3, 4).

    Attributes:
        first: augmentation of the first view.
        second: augmentation of the second view.
        normalise: mean and standard deviation of the pixels.
    """

    first: View = SIMCLR
    second: View = SIMCLR
    normalise: Normalise = IMAGENET

    def draw(self, n: int, clock: Clock, frame: Frame) -> Drawn:
        return Drawn(draw_views((self.first, self.second), n, clock), frame)

    def make(self, images: Images, drawn: Drawn) -> Views:
        size = drawn.frame.size
        large, hints = _make(((self.first, size), (self.second, size)), images, drawn.values, self.normalise)
        return Views(large, index=images.index, hints=hints)


@dataclass(frozen=True)
class MultiCrop:
    """Two large views and several small ones (SwAV, Caron et al. 2020, arXiv:2006.09882); by default those of DINO.

    Hints as for ``TwoCrops``, large views first, and ``mask`` for the large views if there is one.

    Attributes:
        first: augmentation of the first large view.
        second: augmentation of the second large view.
        small: augmentation of the small views.
        count: number of small views.
        small_size: side of a small view as a fraction of a large one's, rounded to a multiple of the backbone's stride, at least two.
        mask: masked patches of the large views (iBOT, DINOv2); none by default.
        normalise: mean and standard deviation of the pixels.
    """

    first: View = DINO_FIRST
    second: View = DINO_SECOND
    small: View = DINO_SMALL
    count: int = 8
    small_size: float = 96 / 224
    mask: Mask | None = None
    normalise: Normalise = IMAGENET

    @property
    def _all(self) -> tuple[View, ...]:
        return self.first, self.second, *(self.small,) * self.count

    def side(self, frame: Frame) -> int:
        """Side of a small view in pixels."""
        return min(max(2, round(frame.size * self.small_size / frame.stride)) * frame.stride, frame.size)

    def draw(self, n: int, clock: Clock, frame: Frame) -> Drawn:
        return Drawn(draw_views(self._all, n, clock) | _hidden(self.mask, n, clock, frame, 2), frame)

    def make(self, images: Images, drawn: Drawn) -> Views:
        sides = (drawn.frame.size,) * 2 + (self.side(drawn.frame),) * self.count
        made, hints = _make(tuple(zip(self._all, sides, strict=True)), images, drawn.values, self.normalise)
        kept = _kept(drawn.values, images.pixels.device)
        return Views(made[:2], made[2:], images.index, hints | kept)


@dataclass(frozen=True)
class OneCrop:
    """One large view of each image. Hints: ``crop``, ``flip``, ``colour``; ``mask`` and ``noise`` if set.

    Attributes:
        view: augmentation.
        mask: masked patches (N, 1, patches; true for masked); none by default.
        noise: length of a standard normal vector per image (N, 1, length); 0: none.
        sobel: replace colours by edges (two channels; DeepCluster).
        normalise: mean and standard deviation of the pixels.
    """

    view: View = PLAIN
    mask: Mask | None = None
    noise: int = 0
    sobel: bool = False
    normalise: Normalise = IMAGENET

    def draw(self, n: int, clock: Clock, frame: Frame) -> Drawn:
        values = draw_views((self.view,), n, clock) | _hidden(self.mask, n, clock, frame, 1)
        if self.noise:
            values["noise"] = KeyedRandom(n, clock, (0, _NOISE)).normal(1, self.noise)
        return Drawn(values, frame)

    def make(self, images: Images, drawn: Drawn) -> Views:
        (made,), hints = _make(((self.view, drawn.frame.size),), images, drawn.values, self.normalise)
        kept = _kept(drawn.values, images.pixels.device)
        return Views((sobel(made) if self.sobel else made,), index=images.index, hints=hints | kept)


@dataclass(frozen=True)
class FourTurns:
    """One view of each image in its four rotations by right angles (RotNet, Gidaris et al. 2018, arXiv:1803.07728).

    Hints: ``turn`` (N, 4; 0 to 3 right angles anticlockwise), and ``crop``, ``flip``, ``colour`` of the view before rotation.

    Attributes:
        view: augmentation.
        normalise: mean and standard deviation of the pixels.
    """

    view: View = PLAIN
    normalise: Normalise = IMAGENET

    def draw(self, n: int, clock: Clock, frame: Frame) -> Drawn:
        return Drawn(draw_views((self.view,), n, clock), frame)

    def make(self, images: Images, drawn: Drawn) -> Views:
        (made,), hints = _make(((self.view, drawn.frame.size),), images, drawn.values, self.normalise)
        turns = torch.arange(4, device=made.device).expand(len(images), 4)
        hints = {name: value.expand(-1, 4, *value.shape[2:]) for name, value in hints.items()}
        return Views(tuple(rotate(made, quarters) for quarters in range(4)), index=images.index, hints=hints | {"turn": turns})


def _small_view(min_area: float, max_area: float, turn: float, invert: float) -> View:
    return replace(SIMCLR_SMALL, crop=Crop((min_area, max_area)), turn=turn, invert=invert)


def small_crops(min_area: float = 0.2, turn: float = 0.0, invert: float = 0.0) -> TwoCrops:
    """Two crops for images of up to 96 pixels.

    Args:
        min_area: minimum area of a crop as a fraction of the image's.
        turn: probability of a rotation by a multiple of 90 degrees.
        invert: probability of inverted colours.
    """
    view = _small_view(min_area, 1.0, turn, invert)
    return TwoCrops(view, view)


def small_multi_crop(count: int = 2, min_area: float = 0.3, turn: float = 0.0, invert: float = 0.0) -> MultiCrop:
    """Two large and some small crops for images of up to 96 pixels; small views have half the side and a third of the area.

    Args:
        count: number of small crops.
        min_area: minimum area of a large crop as a fraction of the image's.
        turn: probability of a rotation by a multiple of 90 degrees.
        invert: probability of inverted colours.
    """
    large, small = _small_view(min_area, 1.0, turn, invert), _small_view(min_area / 3, min_area + 0.1, turn, invert)
    return MultiCrop(large, large, small, count, small_size=0.5)


def small_one_crop(min_area: float = 0.2, turn: float = 0.0, invert: float = 0.0) -> OneCrop:
    """One weakly augmented crop for images of up to 96 pixels.

    Args:
        min_area: minimum area of the crop as a fraction of the image's.
        turn: probability of a rotation by a multiple of 90 degrees.
        invert: probability of inverted colours.
    """
    return OneCrop(_small_view(min_area, 1.0, turn, invert))
