"""Two SimCLR views per image: selfsight, eager and compiled, and lightly's transform, on one core in one run.

    python benchmarks/views.py [--out benchmarks/results/views.json] [--rounds 5]

lightly is not a dependency: install it separately, for example
``pip install --target peer --no-deps lightly lightly_utils lightning_utilities pytorch_lightning torchmetrics aenum``
and ``PYTHONPATH=peer``.
Measured alternately, so that other processes slow all of them; the best round counts.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage import data
from torchvision.transforms.v2 import functional

from selfsight.core.clock import Clock
from selfsight.core.method import Frame
from selfsight.core.views import Images, Views
from selfsight.data.views.image.recipes import SIMCLR, TwoCrops

_PEER = "--no-deps lightly lightly_utils lightning_utilities pytorch_lightning torchmetrics aenum"


def photographs(side: int, n: int) -> torch.Tensor:
    """n square crops of scikit-image's photographs."""
    sources = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]
    tensors = [torch.from_numpy(np.ascontiguousarray(source)).permute(2, 0, 1) for source in sources]
    squares = [functional.resize(functional.center_crop(image, [min(image.shape[1:])]), [side, side]) for image in tensors]
    return torch.stack([squares[number % len(squares)] for number in range(n)])


def lightly_views(size: int, pixels: torch.Tensor) -> Callable[[], object]:
    """lightly's SimCLR transform over PIL images; no blur at 32 px, as in its CIFAR examples."""
    try:
        from lightly.transforms.simclr_transform import SimCLRTransform
    except ImportError as error:
        raise SystemExit(f"lightly cannot be imported ({error}): pip install --target peer --no-deps lightly lightly_utils") from error
    transform = SimCLRTransform(input_size=size, gaussian_blur=0.0 if size < 96 else 0.5)
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in pixels[:64]]
    return lambda: [transform(picture) for picture in pictures]


def our_views(size: int, pixels: torch.Tensor, *, compiled: bool) -> Callable[[], Views]:
    """The recipe with the same options, including its random parameters."""
    view = SIMCLR if size >= 96 else replace(SIMCLR, blur=None)
    recipe, frame = TwoCrops(view, view), Frame(size, 8)
    images = Images(pixels, torch.arange(len(pixels)))
    make = torch.compile(recipe.make) if compiled else recipe.make
    steps = iter(range(1_000_000))
    return lambda: make(images, recipe.draw(len(images), Clock(step=next(steps)), frame))


def compare(size: int, source: int, batch: int, rounds: int) -> dict[str, float]:
    """Views per second of each, the best of some alternating rounds."""
    pixels = photographs(source, batch)
    contestants: dict[str, tuple[Callable[[], object], int]] = {
        "lightly": (lightly_views(size, pixels), 128),
        "eager": (our_views(size, pixels, compiled=False), 2 * batch),
        "compiled": (our_views(size, pixels, compiled=True), 2 * batch),
    }
    best = dict.fromkeys(contestants, 0.0)
    for number in range(rounds + 1):
        for name, (make, views) in contestants.items():
            repeats = 1 if name == "lightly" else max(1, 4096 // batch // 2)
            start = time.perf_counter()
            for _ in range(repeats):
                make()
            rate = repeats * views / (time.perf_counter() - start)
            best[name] = max(best[name], rate) if number else 0.0  # the first round warms up and compiles
    return {name: round(rate) for name, rate in best.items()}


def limits(size: int, source: int) -> dict[str, float]:
    """Minimum cost of a view: operations of the products (full matrices), bytes read and written."""
    dense = 2 * 3 * (source * source * size + source * size * size) + 2 * 9 * size * size
    return {"dense_megaflop": round(dense / 1e6, 2), "bytes_read_and_written": 3 * source * source + 12 * size * size}


def main() -> None:
    """Compare at 32 and 224 px and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "views.json")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, object] = {
        "unit": "views per second and core",
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
    }
    for size, source, batch in ((32, 32, 512), (224, 256, 64)):
        rates = compare(size, source, batch, options.rounds)
        ratios = {f"{name}_times_lightly": round(rates[name] / rates["lightly"], 1) for name in ("eager", "compiled")}
        result[f"{size}px from {source}px"] = rates | ratios | limits(size, source)
        print(size, rates, ratios)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
