"""What is found on scenes of which everything is known, on photographs and in videos, beside what needs no learning; a page of tables.

    python recipes/found.py --world runs/simclr runs/vit                    # objects and kinds on 300 held-out scenes
    python recipes/found.py --photos runs/photos_resnet --ecssd DIR --coco DIR --davis DIR
    python recipes/found.py --pages                                         # only write docs/look-up/found.md again

ECSSD: a folder with ``images`` and ``masks``. COCO: a folder with ``images`` and ``boxes`` (YOLO text). DAVIS: a folder of sequences, each
with ``frames`` and ``masks``. One JSON a table in ``recipes/found``.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "found", HERE.parent / "docs" / "look-up" / "found.md"
SCENES = "world:shapes?count=300&size=64&split=test"
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


def _plain(scores: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {name: score.to_plain() for name, score in scores.items()}


def objects(network: str, source: Any, side: int, layer: str | None) -> dict[str, Any]:
    """CorLoc of every localiser, with its own untrained floor; with masks, also IoU, F and accuracy of the refined masks."""
    from selfsight.api import Run
    from selfsight.discover.looked import Look
    from selfsight.discover.pages import stretched
    from selfsight.discovering import discover_objects
    from selfsight.measure.overlap import judge_masks

    run, table = Run(network), dict[str, Any]()
    truth = source.truth(np.arange(len(source)))
    for method in (*(ATTENTIVE if run.phi.attends else CONVOLUTIONAL), "border", "centre"):
        look = Look(side, None if run.phi.attends else layer)
        found, scores = discover_objects(run.phi, source, method, look=look, least=0)
        blind = method in ("border", "centre")
        row = {"corloc": scores[method].to_plain(), "untrained": scores["untrained"].to_plain() if "untrained" in scores else None}
        if truth.masks is not None:
            finer, _ = (found, None) if blind else discover_objects(run.phi, source, method, look=look, least=0, floors=False, refine=True)
            row["masks"] = judge_masks(lambda place, size, finer=finer: stretched(finer.mask(place) > 0, size), source, finer.read)
        table[method] = row
        print(network, method, row, flush=True)
    return {"network": run.phi.name, "backbone": run.phi.spec, "pictures": len(source), "side": side, "layer": layer, "rows": table}


def kinds(network: str, source: Any) -> dict[str, Any]:
    """Mean IoU of every segmenter, with floors."""
    from selfsight.api import Run
    from selfsight.discover.looked import Look
    from selfsight.discovering import discover_segments

    run, table = Run(network), dict[str, Any]()
    for name, options in KINDS.items():
        method, slow = name.split(",")[0], "refined" in name
        more = {"localiser": "lost"} if method == "object" else {}
        _, scores = discover_segments(run.phi, source, method, look=Look(64, vectors=15), floors=not slow, **options, **more)
        table[name] = _plain(scores)
        print(network, name, table[name], flush=True)
    return {"network": run.phi.name, "backbone": run.phi.spec, "pictures": len(source), "rows": table}


def videos(network: str, folder: Path, layer: str | None, side: int) -> dict[str, Any]:
    """J and F of every sequence, without its first and last frame, beside the first mask copied and the untrained network."""
    import torch
    from PIL import Image

    from selfsight.api import Run
    from selfsight.discover.looked import Look
    from selfsight.discover.propagate import propagate
    from selfsight.measure.overlap import contour_score, overlap

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
            look = Look(side, layer, centred=False)
            rows[name] = judged([mask > 0 for mask in propagate(one.phi, frames, masks[0].astype(np.int64), look=look)])
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
        "# What is found without labels",
        "",
        "Written by `recipes/found.py`; do not edit. In percent. `untrained`: the same method on the",
    ]
    lines += ["same network before learning (its stronger plain form, the mean of three seeds). `border` and `centre` need no network."]
    for path in sorted(RESULTS.glob("*.json")):
        read = json.loads(path.read_text())
        lines += [
            "",
            f"## {path.stem.replace('-', ': ')}",
            "",
            f"`{read['backbone']}`, learnt as `{read['network']}`; commit {read['commit']}.",
            "",
        ]
        lines += _table(path.stem.split("-")[0], read["rows"])
    PAGE.write_text("\n".join(lines) + "\n")


def _table(kind: str, rows: dict[str, Any]) -> list[str]:
    if kind == "kinds":
        body = [
            f"| {name} | {_share(row[name.split(',')[0]])} | {_share(row.get('untrained'))} | {_share(row.get('colour'))} |"
            for name, row in rows.items()
        ]
        return ["| method | mean IoU | untrained | colour |", "|---|--:|--:|--:|", *body]
    if kind == "davis":
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
    body = []
    for name, row in sorted(rows.items(), key=lambda item: -item[1]["corloc"]["value"]):
        masks = row.get("masks") or {}
        more = " | ".join(f"{100 * masks[part]:.1f}" if masks else "–" for part in ("iou", "f", "accuracy"))
        body.append(f"| {name} | {_share(row['corloc'])} | {_share(row['untrained'])} | {more} |")
    return ["| method | CorLoc | untrained | IoU, refined | max F | accuracy |", "|---|--:|--:|--:|--:|--:|", *body]


def main() -> int:
    parser = argparse.ArgumentParser(description="What is found without labels.")
    parser.add_argument("--world", nargs="*", default=[], help="runs to judge on rendered scenes")
    parser.add_argument("--photos", help="a run to judge on photographs and videos")
    parser.add_argument("--layer", default="stages.2", help="of a convolutional network, for photographs")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--limit", type=int)
    for name in ("ecssd", "coco", "davis"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--pages", action="store_true")
    read = parser.parse_args()
    if not read.pages:
        from selfsight.data.opening import open_source

        for network in read.world:
            source = open_source(SCENES, size=64)
            keep(f"objects-scenes-{Path(network).name}", objects(network, source, 64, None))
            keep(f"kinds-scenes-{Path(network).name}", kinds(network, source))
        for name, folder, truth in (("ecssd", read.ecssd, "masks"), ("coco", read.coco, "boxes")):
            if folder:
                source = open_source(folder / "images", size=read.side, truth=folder / truth, limit=read.limit)
                keep(f"objects-{name}", objects(read.photos, source, read.side, read.layer))
        if read.davis:
            keep("davis", videos(read.photos, read.davis, "stages.1", 240))
    write_page()
    return 0


if __name__ == "__main__":
    sys.exit(main())
