"""Discoveries without labels on rendered scenes, photographs and videos, with baselines; a page of tables.

    python recipes/found.py --world runs/simclr runs/vit                    # objects, segments, parts and keypoints on 300 test scenes
    python recipes/found.py --photos runs/photos_resnet --ecssd DIR --coco DIR --davis DIR
    python recipes/found.py --pages                                         # only rewrite docs/look-up/found.md

ECSSD: a folder with ``images`` and ``masks``. COCO: a folder with ``images`` and ``boxes`` (YOLO text). DAVIS: a folder of sequences, each
with ``frames`` and ``masks``. One JSON per table in ``recipes/found``. The features of each method (layer, or block and facet; whether centred) are
selected on other images: 100 scenes of the training split, or 100 photographs that are then excluded.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "found", HERE.parent / "docs" / "look-up" / "found.md"
SCENES = "world:shapes?count={count}&size=64&split={split}"
CHOSEN_ON = 100
CONVOLUTIONAL = ("fiedler", "lost", "cut")
ATTENTIVE = (*CONVOLUTIONAL, "attention", "background")
KINDS: dict[str, dict[str, Any]] = {
    "object": {},
    "object, refined": {"refine": True},
    "spectral": {"segments": 15},
    "spectral, adaptive": {"adaptive": True},
    "patch": {},
    "iic": {},
}
PARTS = 20
"""Ten outlines with two parts each."""
TITLES = {
    "objects": "objects",
    "kinds": "semantic segments",
    "parts": "parts",
    "points": "keypoint transfer",
    "davis": "videos",
}


def _plain(scores: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {name: score.to_json() for name, score in scores.items()}


def looks_of(phi: Any, side: int) -> list[Any]:
    """Candidate features of a network."""
    from selfsight.discover.dense.features import FeatureSpec

    if phi.has_attention:
        blocks = range(len(phi.backbone.blocks))
        facets = ("key", "query", "value")
        return [FeatureSpec(side, None, facet, block, centred) for block in blocks for facet in facets for centred in (True, False)]
    return [FeatureSpec(side, layer, centred=centred) for layer in (*phi.layers[1:], None) for centred in (True, False)]


FACETS = {"key": "keys", "query": "queries", "value": "values"}


def told(look: Any) -> str:
    """Description of features."""
    where = look.layer or ("last grid" if look.facet == "auto" else f"{FACETS[look.facet]} of block {look.block + 1}")
    return f"{where}{', centred' if look.centred else ''} at {look.size} px"


def chosen(phi: Any, source: Any, method: str, tried: Sequence[Any], what: str = "boxes", **options: Any) -> Any:
    """The features with the best score on images that are not part of the evaluation."""
    from selfsight.workflows.discover.run import discover

    best = {}
    for look in tried:
        _, scores = discover(phi, source, what, method, feature_spec=look, baselines=False, **options)
        best[look] = next(iter(next(iter(scores.values())).values())).value
        print("  tried", method, told(look), f"{best[look]:.3f}", flush=True)
    return max(tried, key=best.__getitem__)


def objects(network: str, source: Any, sample: Any, side: int) -> dict[str, Any]:
    """CorLoc of every localiser, with its untrained baseline; with masks, also IoU, F and accuracy of the refined masks."""
    from selfsight.api import Run
    from selfsight.discover.dense.features import FeatureSpec
    from selfsight.measure.metrics.overlap import score_masks
    from selfsight.render.overlay import upsampled
    from selfsight.workflows.discover.run import discover

    run, table = Run(network), dict[str, Any]()
    truth = source.truth(np.arange(len(source)))
    for method in (*(ATTENTIVE if run.phi.has_attention else CONVOLUTIONAL), "border", "selective", "centre"):
        blind = method in ("border", "selective", "centre")
        look = (
            FeatureSpec(side)
            if blind or method in ATTENTIVE[3:]
            else chosen(run.phi, sample, method, looks_of(run.phi, side), min_confidence=0)
        )
        found, scores = discover(run.phi, source, method=method, feature_spec=look, min_confidence=0)
        some = scores["CorLoc"]
        row = {"corloc": some[method].to_json(), "untrained": some["untrained"].to_json() if "untrained" in some else None}
        row["look"] = "" if blind else told(look)
        if truth.masks is not None:
            finer = (
                found
                if blind
                else discover(run.phi, source, method=method, feature_spec=look, min_confidence=0, baselines=False, refine=True)[0]
            )
            row["masks"] = score_masks(lambda place, size, finer=finer: upsampled(finer.mask(place) > 0, size), source, finer.read)
        table[method] = row
        print(network, method, row, flush=True)
    return {"network": run.phi.name, "backbone": run.phi.spec, "pictures": len(source), "rows": table}


def kinds(network: str, source: Any, sample: Any) -> dict[str, Any]:
    """Mean IoU of every segmenter, with baselines."""
    from dataclasses import replace

    from selfsight.api import Run
    from selfsight.workflows.discover.run import discover

    run, table = Run(network), dict[str, Any]()
    look = replace(chosen(run.phi, sample, "lost", looks_of(run.phi, 64), min_confidence=0), vectors=15)
    for name, options in KINDS.items():
        method, slow = name.split(",")[0], "refined" in name
        more = {"localiser": "lost"} if method == "object" else {}
        _, scores = discover(run.phi, source, "segments", method, feature_spec=look, baselines=not slow, **options, **more)
        table[name] = _plain(scores["mean IoU"])
        print(network, name, table[name], flush=True)
    return {"network": run.phi.name, "backbone": run.phi.spec, "pictures": len(source), "look": told(look), "rows": table}


def parts(network: str, source: Any, sample: Any) -> dict[str, Any]:
    """NMI and ARI of parts, with baselines; objects by LOST."""
    from selfsight.api import Run
    from selfsight.workflows.discover.run import discover

    run, table, look = Run(network), dict[str, Any](), None
    for method in ("shared", "contrast"):
        how = {"parts": PARTS, "foreground": "lost"}
        look = look or chosen(run.phi, sample, method, looks_of(run.phi, 64), "parts", **how)
        _, scores = discover(run.phi, source, "parts", method, feature_spec=look, **how)
        table[method] = {name: _plain(some) for name, some in scores.items()}
        print(network, method, table[method], flush=True)
    return {"network": run.phi.name, "backbone": run.phi.spec, "pictures": len(source), "look": told(look), "rows": table}


def points(network: str, source: Any, sample: Any) -> dict[str, Any]:
    """PCK of keypoints transferred from each scene to the next of the same class, with colours and positions as baselines."""
    from dataclasses import replace

    from selfsight.api import Run
    from selfsight.measure.baselines import untrained_networks

    run = Run(network)
    tried = [replace(look, rings=rings) for look in looks_of(run.phi, 64) for rings in (0, 1)]
    best = max(tried, key=lambda look: transfer_points(run.phi, sample, look).value)
    table = {"learnt": transfer_points(run.phi, source, best), "colours": transfer_points(run.phi, source, best, by="colours")}
    table |= {
        "colours of pixels": transfer_points(run.phi, source, best, by="pixels"),
        "same place": transfer_points(run.phi, source, best, by="place"),
    }
    forms: dict[str, list[Any]] = {}
    for form, _, make in untrained_networks(run.phi, source):
        forms.setdefault(form, []).append(transfer_points(make(), source, best))
    seeds = max(forms.values(), key=lambda some: sum(one.value for one in some))
    table["untrained"] = type(seeds[0])(float(np.mean([one.value for one in seeds])), min(s.low for s in seeds), max(s.high for s in seeds))
    print(network, table, flush=True)
    look = told(best) + (", log-binned" if best.rings else "")
    return {"network": run.phi.name, "backbone": run.phi.spec, "pictures": len(source), "look": look, "rows": _plain(table)}


def transfer_points(phi: Any, source: Any, look: Any, by: str = "features") -> Any:
    """PCK@0.1 over all keypoints that are visible in both images of a pair."""
    from torch.nn.functional import adaptive_avg_pool2d

    from selfsight.discover.dense.correspond import log_binned, transfer
    from selfsight.discover.dense.features import iter_feature_batches
    from selfsight.measure.metrics.points import pck

    truth = source.truth(np.arange(len(source)))
    features = list[Any]()
    for feature_batch in iter_feature_batches(phi, source, look):
        grid = feature_batch.features if by == "features" else feature_batch.pixels
        grid = adaptive_avg_pool2d(grid, feature_batch.shape) if by == "colours" else grid
        features += list(log_binned(grid, 1) if by in ("colours", "pixels") else grid)
    last: dict[int, int] = {}
    found, known, sides = list[np.ndarray](), list[np.ndarray](), list[float]()
    for row, label in enumerate(truth.labels.tolist()):
        other = last.get(label)
        last[label] = row
        if other is None:
            continue
        both = (truth.keypoints[other][:, 2] > 0) & (truth.keypoints[row][:, 2] > 0)
        start, end = truth.keypoints[other][both, :2], truth.keypoints[row][both, :2]
        moved = start if by == "place" else transfer(start, features[other], features[row], ((64, 64), (64, 64)))
        found.append(moved)
        known.append(end)
        left, top, right, bottom = truth.boxes[row][0][:4]
        sides.append(float(max(right - left, bottom - top)))
    return pck(found, known, sides).by_keypoint


def videos(network: str, folder: Path, layer: str | None, side: int) -> dict[str, Any]:
    """J and F of every sequence without its first and last frame; baselines: a copy of the first mask, and the untrained network."""
    import torch
    from PIL import Image

    from selfsight.api import Run
    from selfsight.discover.dense.features import FeatureSpec
    from selfsight.discover.dense.propagate import propagate
    from selfsight.measure.metrics.overlap import contour_score, overlap

    run = Run(network)
    plain = Run(f"untrained:{run.phi.spec}", size=run.phi.size)
    table = dict[str, Any]()
    for sequence in sorted(path for path in folder.iterdir() if (path / "frames").is_dir()):
        files = sorted((sequence / "frames").iterdir())
        frames = [torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1) for file in files]
        masks = [np.array(Image.open(sequence / "masks" / f"{file.stem}.png")) > 0 for file in files]

        def judged(found: list[np.ndarray], masks: list[np.ndarray] = masks) -> dict[str, float]:
            pairs = list(zip(found, masks, strict=True))[1:-1]
            return {"j": float(np.mean([overlap(*pair) for pair in pairs])), "f": float(np.mean([contour_score(*pair) for pair in pairs]))}

        rows = {"copied": judged([masks[0]] * len(masks))}
        for name, one in (("learnt", run), ("untrained", plain)):
            look = FeatureSpec(side, layer, centred=False)
            rows[name] = judged([mask > 0 for mask in propagate(one.phi, frames, masks[0].astype(np.int64), feature_spec=look)])
        table[sequence.name] = {"frames": len(files), **rows}
        print(sequence.name, table[sequence.name], flush=True)
    return {"network": run.phi.name, "backbone": run.phi.spec, "layer": layer, "side": side, "rows": table}


def keep(name: str, result: dict[str, Any]) -> None:
    from selfsight.core.origin import origin

    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps({**result, "commit": origin()["commit"]}, indent=1) + "\n")


def _share(score: dict[str, float] | None) -> str:
    return "–" if score is None else f"{100 * score['value']:.1f}"


def write_page() -> None:
    """The tables of the documentation."""
    lines = [
        "# Discoveries without labels",
        "",
        "Written by `recipes/found.py`; do not edit. In percent. `untrained`: the same method with the same features of the untrained network",
        "(its best form, the mean of three seeds). The features were selected on other images. `border`, `selective` (the first box of selective",
        "search), `centre` and colours need no network.",
    ]
    for path in sorted(RESULTS.glob("*.json"), key=lambda path: (list(TITLES).index(path.stem.split("-")[0]), path.stem)):
        read = json.loads(path.read_text())
        kind, *where = path.stem.split("-")
        told = [f"`{read['backbone']}`, run `{read['network']}`", f"{read['pictures']} images" if "pictures" in read else ""]
        told += [read.get("look", ""), f"commit {read['commit']}"]
        lines += [
            "",
            f"## {TITLES[kind].capitalize()}{': ' if where else ''}{', '.join(where)}",
            "",
            "; ".join(filter(None, told)) + ".",
            "",
        ]
        lines += TABLES[kind](read["rows"])
    PAGE.write_text("\n".join(lines + _published()) + "\n")


def _kinds_table(rows: dict[str, Any]) -> list[str]:
    body = [
        f"| {name} | {_share(row[name.split(',')[0]])} | {_share(row.get('untrained'))} | {_share(row.get('colour'))} |"
        for name, row in rows.items()
    ]
    return ["| method | mean IoU | untrained | colour |", "|---|--:|--:|--:|", *body]


def _parts_table(rows: dict[str, Any]) -> list[str]:
    body = []
    for method, scores in rows.items():
        cells = [_share(scores[name].get(who)) for name in ("NMI", "ARI") for who in (method, "untrained", "colour")]
        body.append(f"| {method} | {' | '.join(cells)} |")
    return ["| method | NMI | untrained | colour | ARI | untrained | colour |", "|---|--:|--:|--:|--:|--:|--:|", *body]


def _points_table(rows: dict[str, Any]) -> list[str]:
    body = [f"| {who} | {_share(score)} |" for who, score in sorted(rows.items(), key=lambda item: -item[1]["value"])]
    return ["| features | PCK@0.1 |", "|---|--:|", *body]


def _videos_table(rows: dict[str, Any]) -> list[str]:
    mean = {
        name: {part: float(np.mean([row[name][part] for row in rows.values()])) for part in "jf"}
        for name in ("learnt", "untrained", "copied")
    }
    every = {**rows, "**mean**": {"frames": sum(row["frames"] for row in rows.values()), **mean}}
    head = "| sequence | frames | J | F | J untrained | F untrained | J copied | F copied |"
    body = [
        f"| {name} | {row['frames']} | "
        + " | ".join(f"{100 * row[who][part]:.1f}" for who in ("learnt", "untrained", "copied") for part in "jf")
        + " |"
        for name, row in every.items()
    ]
    return [head, "|---|--:|--:|--:|--:|--:|--:|--:|", *body]


def _objects_table(rows: dict[str, Any]) -> list[str]:
    body = []
    for name, row in sorted(rows.items(), key=lambda item: -item[1]["corloc"]["value"]):
        masks = row.get("masks") or {}
        more = " | ".join(f"{100 * masks[part]:.1f}" if masks else "–" for part in ("iou", "f", "accuracy"))
        body.append(f"| {name} | {_share(row['corloc'])} | {_share(row['untrained'])} | {more} | {row.get('look', '')} |")
    return ["| method | CorLoc | untrained | IoU, refined | max F | accuracy | features |", "|---|--:|--:|--:|--:|--:|---|", *body]


def _published() -> list[str]:
    """Published results, and the differences between methods here."""
    ours = {name: RESULTS / f"objects-scenes-{name}.json" for name in ("dino_shapes", "simclr_shapes")}
    found = {name: json.loads(file.read_text())["rows"] for name, file in ours.items() if file.is_file()}
    told = [
        ", ".join(f"{method} {_share(rows[method]['corloc'])}" for method in CONVOLUTIONAL) + f" ({name})" for name, rows in found.items()
    ]
    return [
        "",
        "## Published results",
        "",
        "CorLoc on PASCAL VOC 2007, features of DINO trained on ImageNet (from the repositories of the methods): LOST 61.9 with a ViT-S/16 and",
        "36.8 with a ResNet-50; TokenCut (here `cut`) 68.8 with the ViT-S/16, and on ECSSD an IoU of 71.2 without refinement, 77.2 with it. There",
        "`cut` is above `lost` by 6.9 points, and the transformer above the convolutional network by 25. Here, on scenes, with networks trained",
        f"for minutes: {'; '.join(told)}. With published weights, one command per table: `selfsight discover",
        "timm:vit_small_patch16_224.dino PHOTOS --method cut --truth MASKS` (from a folder in timm's format: `timm:local-dir:PATH`).",
    ]


TABLES = {"objects": _objects_table, "kinds": _kinds_table, "parts": _parts_table, "points": _points_table, "davis": _videos_table}


def main() -> int:
    parser = argparse.ArgumentParser(description="Discoveries without labels.")
    parser.add_argument("--world", nargs="*", default=[], help="runs to evaluate on rendered scenes")
    parser.add_argument("--only", default="objects,kinds,parts,points", help="tables of rendered scenes")
    parser.add_argument("--photos", help="a run to evaluate on photographs and videos")
    parser.add_argument("--layer", default="stages.1", help="layer of a convolutional network, for videos")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--limit", type=int)
    for name in ("ecssd", "coco", "davis"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--pages", action="store_true")
    read = parser.parse_args()
    if not read.pages:
        from selfsight.data.opening import open_source
        from selfsight.data.source import Subset

        tables = {"objects": lambda *given: objects(*given, 64), "kinds": kinds, "parts": parts, "points": points}
        judged, sample = (open_source(SCENES.format(count=n, split=s), size=64) for n, s in ((300, "test"), (CHOSEN_ON, "train")))
        for network in read.world:
            for name in read.only.split(","):
                keep(f"{name}-scenes-{Path(network).name}", tables[name](network, judged, sample))
        for name, folder, truth in (("ecssd", read.ecssd, "masks"), ("coco", read.coco, "boxes")):
            if folder:
                source = open_source(folder / "images", size=read.side, truth=folder / truth, limit=read.limit)
                order = np.random.default_rng(0).permutation(len(source))
                few = min(CHOSEN_ON, len(source) // 4)
                rest, sample = Subset(source, np.sort(order[few:])), Subset(source, np.sort(order[:few]))
                keep(f"objects-{name}", objects(read.photos, rest, sample, read.side))
        if read.davis:
            keep("davis", videos(read.photos, read.davis, read.layer, 240))
    write_page()
    return 0


if __name__ == "__main__":
    sys.exit(main())
