"""Claims on clusters and small views."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import adjusted_mutual_info_score

from claimed.common import TRAIN, Claim, ClaimResult, bars, learn, method_of, top1
from selfsight.data.opening import open_source
from selfsight.data.views.image.recipes import OneCrop, View, small_multi_crop

HELPED = ("simclr", "swav", "deepcluster_v2", "sela_v2")


def sela_parts(folder: Path) -> ClaimResult:
    """Without invariance, alternation or balance AMI is lower; cluster sizes are those requested."""
    plain = OneCrop(View())
    plain = replace(plain, view=replace(plain.view, crop=replace(plain.view.crop, scale=(1.0, 1.0), ratio=(1.0, 1.0)), flip=0.0))
    cases: dict[str, dict[str, Any]] = {
        "SeLa": {},
        "without invariance": {"recipe": plain},
        "without alternation": {"relabels": 1},
        "without balance": {"balance": False},
        "Zipf shares": {"zipf": 1.0},
    }
    ami, apart = {}, {}
    for name, options in cases.items():
        run, _ = learn(folder / name.replace(" ", "_").replace("'", ""), "sela", 800, clusters=32, heads=1, **options)
        method = method_of(run)
        labels = method.assigned[0].labels.numpy()
        truth = open_source(TRAIN, size=32).truth(np.arange(len(labels))).labels
        ami[name] = 100 * float(adjusted_mutual_info_score(truth, labels))
        sizes = np.bincount(labels, minlength=32) / len(labels)
        wanted = np.arange(1, 33.0) ** -float(options.get("zipf", 0.0))
        apart[name] = 100 * float(np.abs(np.sort(sizes)[::-1] - np.sort(wanted / wanted.sum())[::-1]).max())
    lower = all(ami[name] < ami["SeLa"] for name in ("without invariance", "without alternation", "without balance"))
    near = all(apart[name] <= 2 for name in ("SeLa", "Zipf shares"))
    measured = {"ami": ami, "largest deviation of a cluster size from its share, in points": apart}
    return ClaimResult(measured, lower and near, bars("SeLa: AMI of the labels with the shapes", ami, set(), "AMI x 100"))


def small_views(folder: Path) -> ClaimResult:
    """Small views help methods that compare views, and not the supervised network."""
    scores: dict[str, float] = {}
    gains = {}
    for method in (*HELPED, "supervised"):
        for count in (0, 2):
            name = f"{method}, {'small views' if count else 'large views only'}"
            recipe = small_multi_crop(count, min_area=0.5, turn=0.75)
            run, _ = learn(folder / f"{method}{count}", method, 250, recipe=recipe, batch=64)
            scores[name] = top1(run)
        gains[method] = scores[name] - scores[f"{method}, large views only"]
    holds = all(gains[method] > 0 for method in HELPED) and gains["supervised"] < 2
    marked = {name for name in scores if "small" in name}
    return ClaimResult({"k-NN": scores, "gain": gains}, holds, bars("k-NN; red: with two small views", scores, marked, "k-NN top-1 (%)"))


CLAIMS = {
    "b": Claim(
        "SeLa needs invariance, alternation and balance, and its clusters have the requested sizes",
        "AMI of the labels is lower without any of the three; sizes are within 2 points of their shares, for equal and for Zipf shares",
        sela_parts,
    ),
    "d": Claim(
        "Small views improve SimCLR, SwAV, DeepCluster v2 and SeLa v2, but not the supervised network",
        "after the same 250 steps k-NN is higher with two small views for the four methods, and less than two points higher for the fifth",
        small_views,
        failed="SimCLR, SwAV and SeLa v2 gain five to ten points, as claimed, and the supervised network loses seven. DeepCluster v2 does not "
        "change: its targets come from a memory of large views that is clustered every epoch, which is only four times in 250 steps; "
        "this may be the reason. More steps were not tested.",
    ),
}
