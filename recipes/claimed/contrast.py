"""Claims on contrastive learning: sources of negatives, and an ablation of SimCLR."""

import json
import statistics
import time
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import normalize

from claimed.common import BLUE, RED, SEED, TEST, Claim, ClaimResult, bars, learn, method_of, plain, top1
from selfsight.core.clock import Clock
from selfsight.core.method import Frame
from selfsight.data.loader import load_images
from selfsight.data.opening import open_source
from selfsight.data.views.image.geometry import Crop
from selfsight.data.views.image.recipes import TwoCrops, View
from selfsight.workflows.train.config import world_options

SEEN = 31_744
"""Training images of each source of negatives, with repetition."""
STEPS, BATCH = 250, 64


def peak(folder: str, method: str, batch: int, options: dict[str, Any]) -> dict[str, float]:
    """k-NN, CPU seconds, and peak memory of training above that of one step with eight images; in a separate process."""
    torch.set_num_threads(1)
    learn(Path(folder) / "before", "simclr", 1, batch=8)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak memory
    before, started = memory("VmRSS"), time.process_time()
    run, _ = learn(Path(folder) / "run", method, SEEN // batch, batch=batch, **options)
    seconds, after = time.process_time() - started, memory("VmHWM")
    return {"k-NN": top1(run), "seconds": seconds, "megabytes": after - before}


def memory(name: str) -> float:
    """A value of ``/proc/self/status`` in megabytes."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024


def sources_of_negatives(folder: Path) -> ClaimResult:
    """Memory and k-NN with negatives from a large batch, a memory bank or a queue."""
    cases = {
        "large batch (SimCLR, 512)": ("simclr", 512, {}, 1022),
        "memory bank (NPID, 64)": ("npid", 64, {}, 3999),
        "queue (MoCo, 64)": ("moco", 64, {"keys": 1024}, 1024),
    }
    found = {}
    for number, (name, (method, batch, options, _)) in enumerate(cases.items()):
        with get_context("spawn").Pool(1) as pool:
            found[name] = pool.apply(peak, (str(folder / str(number)), method, batch, options)) | {"negatives": float(cases[name][3])}
    big, bank, queue = found.values()
    holds = max(bank["megabytes"], queue["megabytes"]) < big["megabytes"] / 2 and queue["k-NN"] >= bank["k-NN"]

    return ClaimResult(found, holds, partial(draw_negatives, found))


def draw_negatives(found: dict[str, dict[str, float]], axes: Any) -> None:
    for name, values in found.items():
        axes.scatter(values["megabytes"], values["k-NN"], s=60)
        words = f"{name}\n{values['negatives']:.0f} negatives, {values['seconds']:.0f} s"
        axes.annotate(words, (values["megabytes"], values["k-NN"]), (8, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_xlim(0, 1.4 * max(values["megabytes"] for values in found.values()))
    axes.margins(y=0.3)
    axes.set_xlabel("memory of training (MB)")
    axes.set_ylabel("k-NN top-1 (%)")
    axes.set_title(f"Sources of negatives, {SEEN:,} images", loc="left", fontsize=11)
    plain(axes)


def simclr_sweep(folder: Path) -> ClaimResult:
    """Ablation of SimCLR: augmentations, depth, training time, batch size and head."""
    full: TwoCrops = world_options("simclr")["recipe"]

    def both(view: View) -> dict[str, Any]:
        return {"recipe": replace(full, first=view, second=view)}

    view = full.first
    cases: dict[str, tuple[int, dict[str, Any]]] = {
        "all": (STEPS, {}),
        "no crop": (STEPS, both(replace(view, crop=Crop((1.0, 1.0), (1.0, 1.0))))),
        "no colour augmentation": (STEPS, both(replace(view, jitter=None, grey=0.0))),
        "no rotation": (STEPS, both(replace(view, turn=0.0))),
        "crop only": (STEPS, both(View(crop=view.crop, flip=0.0))),
        "half the steps": (STEPS // 2, {}),
        "twice the steps": (STEPS * 2, {}),
        "batch 16": (STEPS * BATCH // 16, {"batch": 16}),
        "batch 256": (STEPS * BATCH // 256, {"batch": 256}),
        "twice as deep": (STEPS, {"backbone": "resnet_tiny?blocks=2"}),
        "linear head": (STEPS, {"hidden": 0}),
        "no head": (STEPS, {"dim": 0}),
    }
    scores, cosines = {}, ()
    for name, (steps, options) in cases.items():
        run, _ = learn(folder / name.replace(" ", "_"), "simclr", steps, **({"batch": BATCH} | options))
        scores[name] = top1(run)
        cosines = cosines or pair_cosines(method_of(run), full)
    positive, negative = cosines
    apart = float(torch.searchsorted(negative.sort().values, positive).double().mean() / len(negative))
    points = catalogue()
    weaker = ("no crop", "no colour augmentation", "half the steps", "no head")
    holds = all(scores[name] < scores["all"] for name in weaker) and scores["twice the steps"] > scores["all"] and apart > 0.9
    measured = {
        "k-NN": scores,
        "positive pairs that are closer than negative ones, in %": 100 * apart,
        f"rank correlation of alignment with k-NN over {len(points)} methods of the catalogue": _rank_correlation(points),
    }

    def draw(axes: Any) -> None:
        left, middle, right = axes
        bars("Ablation of SimCLR", scores, {"all"}, "k-NN top-1 (%)")(left)
        edges = np.linspace(-1, 1, 41)
        for values, words, colour in ((negative, "two images", BLUE), (positive, "two views of one image", RED)):
            middle.hist(values.numpy(), bins=edges, density=True, alpha=0.7, label=words, color=colour)
        middle.set_xlabel("cosine similarity")
        middle.set_title("Pairs", loc="left", fontsize=11)
        middle.legend(fontsize=9, frameon=False)
        right.scatter([x for _, x, _ in points], [100 * y for _, _, y in points], s=14)
        for name, x, y in without_overlap(points):
            right.annotate(name, (x, 100 * y), (3, 2), textcoords="offset points", fontsize=7)
        right.margins(x=0.2)
        right.set_xlabel("alignment (lower: views agree)")
        right.set_ylabel("k-NN top-1 (%)")
        right.set_title(f"{len(points)} methods of the catalogue", loc="left", fontsize=11)
        for each in axes:
            plain(each)

    return ClaimResult(measured, holds, draw)


def pair_cosines(method: Any, recipe: TwoCrops) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines between embeddings of two views of one test image, and of views of two test images."""
    clock, source = Clock(seed=SEED), open_source(TEST, size=32)
    shown = load_images(source, np.arange(500))
    views = recipe.make(shown, recipe.draw(500, clock, Frame(32, method.backbone.stride, 3)))
    with torch.no_grad():
        left, right = (normalize(method.projector(method.backbone(view).pooled).float()) for view in views.large)
    table = left @ right.T
    return table.diagonal(), table[~torch.eye(len(table), dtype=torch.bool)]


def catalogue() -> list[tuple[str, float, float]]:
    """Alignment and k-NN of the methods whose results contain both; mean over seeds."""
    results: dict[str, list[tuple[float, float]]] = {}
    for path in sorted((Path(__file__).parent.parent / "evidence" / "shapes").glob("*.json")):
        result = json.loads(path.read_text())
        if "alignment" in result["scores"].get("geometry", {}):
            pair = result["scores"]["geometry"]["alignment"], result["scores"]["knn"]["top1"]
            results.setdefault(result["method"], []).append(pair)
    return [(name, *(statistics.mean(values) for values in zip(*pairs, strict=True))) for name, pairs in results.items()]  # pyright: ignore[reportReturnType]


def without_overlap(points: list[tuple[str, float, float]]) -> list[tuple[str, float, float]]:
    """The points whose labels do not overlap."""
    widest, highest = (max(point[axis] for point in points) for axis in (1, 2))
    kept: list[tuple[str, float, float]] = []
    for point in sorted(points, key=lambda each: -each[2]):
        if all(abs(point[1] - x) > 0.2 * widest or abs(point[2] - y) > 0.04 * highest for _, x, y in kept):
            kept.append(point)
    return kept


def _rank_correlation(points: list[tuple[str, float, float]]) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr([x for _, x, _ in points], [y for _, _, y in points]).statistic)


CLAIMS = {
    "c": Claim(
        "A memory bank or a queue provides as many negatives as a large batch with a fraction of its memory, and the queue gives better features",
        f"while training on {SEEN:,} images, a bank or a queue needs less than half of the memory of a large batch (in addition to that of one step "
        "with eight images), and k-NN with the queue is at least that with the bank",
        sources_of_negatives,
    ),
    "i": Claim(
        "SimCLR needs crops, colour augmentation, a projection head and long training; views of one image become closer than views of two images",
        "k-NN is lower without crops, without colour augmentation, without a head and after half of the steps, and higher after twice the steps; "
        "more than 90 % of positive pairs are closer than negative ones",
        simclr_sweep,
        wide=3,
    ),
}
