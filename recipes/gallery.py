"""A gallery: two supervised CIFAR-10 networks with published weights, explained on photographs.

    python recipes/gallery.py

SELFSIGHT_SHARED_DATA is a folder with weights/resnet20-cifar10.safetensors and resnet56-cifar10.safetensors (He et al. 2015; weights by
Y. Idelbayev, BSD) and cifar10/train.parquet, from which inverters and spectra are computed. Images are written to docs/understand/gallery,
captions to docs/understand/gallery.md. One thread; some minutes.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import skimage.data
import torch
from claimed.attributing import levels
from claimed.trained import published, shared
from torch import Tensor
from torch.nn.functional import interpolate

from selfsight.core.errors import SelfsightError
from selfsight.data.loader import load_images
from selfsight.data.opening import open_source
from selfsight.data.views.image.geometry import central_square
from selfsight.explain.attribution.explanation import explain
from selfsight.explain.gallery import inversions
from selfsight.explain.inversion.descent import caricature, invert, invert_with_deep_prior
from selfsight.explain.inversion.inverter import invert_learned, learn_inverter
from selfsight.explain.synthesis.activation import (
    Fourier,
    Generated,
    Parameterisation,
    Phase,
    Pixels,
    deep_dream,
    maximise,
    synthesise_style,
)
from selfsight.explain.synthesis.comparison import compare_units
from selfsight.explain.synthesis.priors import estimate_spectrum
from selfsight.explain.targets import argmax_target, unit
from selfsight.render.sheet import Tile, sheet

PAGE = Path(__file__).parent.parent / "docs" / "understand" / "gallery.md"
PICTURES = PAGE.parent / "gallery"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PHOTOGRAPHS = {"cat": ("chelsea", (0, 60, 300)), "rocket": ("rocket", (10, 170, 300)), "astronaut": ("astronaut", (0, 60, 340))}
"""Name, and top, left and side of the square crop."""
LAYERS = ("module.relu", "module.layer1.2", "module.layer2.2", "module.layer3.2")


def photographs(size: int) -> Tensor:
    """Squares of public photographs in [0, 1]."""
    found = []
    for name, (top, left, side) in PHOTOGRAPHS.values():
        cut = torch.from_numpy(getattr(skimage.data, name)()[top : top + side, left : left + side]).permute(2, 0, 1)[None].float() / 255
        found.append(interpolate(cut, (size, size), mode="bilinear", antialias=True))
    return torch.cat(found)


def seen(count: int) -> Tensor:
    """Training images of the networks."""
    source = open_source(str(shared("cifar10", "train.parquet")), size=32)
    rows = np.linspace(0, len(source) - 1, count).astype(np.int64)
    return torch.cat([central_square(load_images(source, part), 32) for part in np.array_split(rows, max(count // 500, 1))])


def why() -> bytes:
    """Every method that supports the network, for the most probable class."""
    phi, target = published(20)
    shown = photographs(32)
    chosen = argmax_target(target, phi, shown)
    names = [f"{name}: {CLASSES[int(which)]}" for name, which in zip(PHOTOGRAPHS, torch.as_tensor(chosen.which), strict=True)]
    return explain(phi, shown, chosen, ["all"], names=names)._repr_png_()


def kept() -> bytes:
    """Inversion of layers: by descent, by a deep image prior, and by a learned inverter."""
    phi, _ = published(20)
    shown, learnt_from = photographs(32), seen(4000)
    rows = {}
    for name, by in (
        ("descent", lambda layer: invert(phi, shown, layer)),
        ("form", lambda layer: invert_with_deep_prior(phi, shown, layer, steps=500)),
        ("learned", lambda layer: invert_learned(phi, shown, learn_inverter(phi, learnt_from, layer, steps=1000))),
    ):
        found = inversions(shown, {layer: by(layer) for layer in LAYERS}, names=list(PHOTOGRAPHS))
        rows |= {f"{photograph}, {name}": row for photograph, row in list(found.rows.items())[:2]}
    return sheet(rows)


def classes() -> bytes:
    """Images that maximise each class, in four parameterisations."""
    phi, target = published(56)
    spectrum, inverter = estimate_spectrum(seen(500)), learn_inverter(phi, seen(4000), None, steps=1000, adversarial_weight=0.003)
    ways: dict[str, Parameterisation] = {
        "pixels": Pixels(),
        "fourier": Fourier(),
        "phase": Phase(spectrum),
        "generated": Generated(inverter),
    }
    rows = {}
    for name, parameterisation in ways.items():
        found = maximise(
            phi,
            target.at(torch.arange(10)),
            count=10,
            parameterisation=parameterisation,
            rate=0.2 if name in ("phase", "generated") else 0.05,
        )
        rows[name] = [
            Tile(picture.permute(1, 2, 0).numpy(), f"{CLASSES[number]} {float(score):.1f}")
            for number, (picture, score) in enumerate(zip(found.images, found.scores, strict=True))
        ]
    return sheet(rows)


def units() -> bytes:
    """Eight units of three layers."""
    phi, _ = published(56)
    rows = {}
    for layer in ("module.layer1.8", "module.layer2.8", "module.layer3.8"):
        numbers = torch.arange(8)
        found = maximise(phi, unit(layer, numbers), count=8)
        rows[layer.removeprefix("module.")] = [
            Tile(picture.permute(1, 2, 0).numpy(), f"unit {number} {float(score):.2g}")
            for number, (picture, score) in enumerate(zip(found.images, found.scores, strict=True))
        ]
    return sheet(rows)


def side_by_side() -> bytes:
    """Units of the same rank in both networks."""
    shown = seen(500)
    networks = {f"ResNet-{depth}": published(depth)[0] for depth in (20, 56)}
    return compare_units(networks, dict.fromkeys(networks, shown), depth=0.6, ranks=tuple(range(6)))._repr_png_()


def dreams() -> bytes:
    """DeepDream, caricature, and texture synthesis."""
    phi, _ = published(56)
    shown = photographs(96)
    more, drawn = deep_dream(phi, shown, "module.layer2.8"), caricature(phi, shown, "module.layer3.8")
    texture, _ = synthesise_style(phi, shown, ["module.layer1.4", "module.layer1.8", "module.layer2.4"], steps=150)
    columns = {"the photograph": shown, "DeepDream": more, "caricature": drawn, "texture": texture}
    rows = {name: [Tile(levels(each[number])) for each in columns.values()] for number, name in enumerate(PHOTOGRAPHS)}
    return sheet(rows, list(columns))


PARTS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "why": (
        "Attribution maps of ResNet-20 for the most probable class of each photograph; orange: evidence for the class, blue: against it. Below each "
        "map its range and the fraction of the score that is lost when the tenth of the pixels with the highest values is blurred",
        why,
    ),
    "kept": (
        "Reconstructions from layers of ResNet-20, from left to right deeper layers; by descent with natural-image priors, by a deep image prior, "
        "and by a learned inverter",
        kept,
    ),
    "classes": (
        "Images that maximise the classes of ResNet-56, in four parameterisations: independent pixels; Fourier coefficients in decorrelated colours; "
        "the phase, with the magnitude spectrum of the training images; the code of a learned generator. Numbers are logits",
        classes,
    ),
    "units": ("Images that maximise eight units of the last layer of each stage of ResNet-56", units),
    "beside": ("Images that maximise units of the same rank, at the same relative depth of ResNet-20 and ResNet-56", side_by_side),
    "dreams": (
        "DeepDream, caricature, and a texture with the Gram matrices of the photograph in the first stages, by ResNet-56",
        dreams,
    ),
}


def write_page() -> None:
    """The page with all existing images."""
    lines = [
        "# Gallery",
        "",
        "Written by `recipes/gallery.py`; do not edit. Two supervised CIFAR-10 networks with published weights, on images of 32 px, the size of",
        "their training images (DeepDream, caricature and texture: 96 px).",
    ]
    for name in (name for name in PARTS if (PICTURES / f"{name}.png").is_file()):
        words, _ = PARTS[name]
        lines += ["", f"{words}.", "", f"![{name}](gallery/{name}.png)"]
    PAGE.write_text("\n".join(lines) + "\n")


def main() -> int:
    torch.set_num_threads(1)
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:] or PARTS:
        try:
            (PICTURES / f"{name}.png").write_bytes(PARTS[name][1]())
        except SelfsightError as problem:
            print(problem, file=sys.stderr)
            return problem.exit_code
        print(PICTURES / f"{name}.png", flush=True)
    write_page()
    return 0


if __name__ == "__main__":
    sys.exit(main())
