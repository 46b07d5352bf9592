"""Fine-tuning and reverse probing of representations: tables of several networks with their baselines.

    python recipes/measures.py --learn runs/probing --minutes 3            # some methods, on scenes of 32 px
    python recipes/measures.py --probing runs/probing/*                    # linear and reverse probing
    python recipes/measures.py --transfer runs/simclr runs/dino --data scenes
    python recipes/measures.py --transfer runs/photos_resnet --data coco --folder DIR    # DIR: images, boxes (YOLO text)
    python recipes/measures.py --pages                                     # only rewrite docs/look-up/measures.md

One JSON per table in ``recipes/measures``.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "measures", HERE.parent / "docs" / "look-up" / "measures.md"
METHODS = ("simclr", "dim", "align_uniform", "moco")
WORLD = "world:shapes?count={count}&size={size}&split={split}"
SEEDS = 3
NUISANCES = ("light", "ground", "background_name", "x", "y")
"""Attributes of a scene that do not belong to its object."""


def learn(folder: Path, minutes: float) -> None:
    """Train some methods, each for a number of minutes."""
    from selfsight.workflows.train.config import world_options
    from selfsight.workflows.train.request import TrainRequest
    from selfsight.workflows.train.run import RunPolicy, run_training

    for method in METHODS:
        if not (folder / method / "export").exists():
            data = WORLD.format(count=10_000, size=32, split="train")
            wishes = TrainRequest(method=method, data=data, size=32, minutes=minutes, options=world_options(method))
            run_training(wishes, folder / method, RunPolicy(progress=lambda words, method=method: print(f"{method}: {words}", flush=True)))


def probing(networks: list[str]) -> dict[str, Any]:
    """k-NN and linear probe of classes; bits of clusters that are predicted from all concepts, those of the object, and all others."""
    from selfsight.api import Run
    from selfsight.bank.extract import make_encoder
    from selfsight.bank.store import OUTPUT
    from selfsight.data.opening import open_source
    from selfsight.measure.baselines import PIXEL_SIDE, channel_statistics, pixel_encoder, untrained_networks

    def probed(phi: Any) -> dict[str, Any]:
        return _probed(make_encoder(phi), phi.size, source, judged)[OUTPUT]

    rows: dict[str, Any] = {}
    source, judged = (open_source(WORLD.format(count=count, size=32, split=split)) for count, split in ((10_000, "train"), (3000, "test")))
    for network in networks:
        run = Run(network)
        rows[Path(network).name] = probed(run.phi)
        print(network, rows[Path(network).name], flush=True)
    forms: dict[str, list[dict[str, Any]]] = {}
    for form, _, make in untrained_networks(Run(networks[0]).phi, source, seeds=SEEDS):
        forms.setdefault(form, []).append(probed(make()))
    for form, seeds in forms.items():
        rows[f"untrained, {form}"] = {
            name: {part: float(np.mean([seed[name][part] for seed in seeds])) for part in seeds[0][name]} for name in seeds[0]
        }
    pixels = _probed(pixel_encoder(*channel_statistics(source)), PIXEL_SIDE, source, judged)
    rows |= {f"pixels, {form}": scores for form, scores in pixels.items()}
    return {"backbone": Run(networks[0]).phi.spec, "rows": rows}


def _probed(encoder: Any, size: int, source: Any, judged: Any) -> dict[str, dict[str, Any]]:
    """Scores of each output of an encoder, by name."""
    from selfsight.bank.extract import extract_features
    from selfsight.measure.probes.reverse import concepts_of
    from selfsight.measure.results import Features

    known, truth = (part.truth(np.arange(len(part))) for part in (source, judged))
    fitted, asked = (extract_features(part, encoder, size=size) for part in (source, judged))
    concepts = concepts_of(known, truth)
    assert concepts is not None
    outside = np.isin(concepts.groups, NUISANCES)
    parts = {"all": outside | True, "object": ~outside, "rest": outside}
    return {
        name: _plain(Features(rows, asked[name], known.labels, truth.labels, known.classes), concepts, parts)
        for name, rows in fitted.items()
    }


def _plain(features: Any, concepts: Any, parts: dict[str, Any]) -> dict[str, Any]:
    from dataclasses import replace

    from selfsight.measure.probes.knn import knn
    from selfsight.measure.probes.linear import linear
    from selfsight.measure.probes.reverse import reverse

    found = {"knn": knn(features).values["top1"], "linear": linear(features).values["top1"]}
    for name, keep in parts.items():
        names, groups = (tuple(np.array(some)[keep]) for some in (concepts.names, concepts.groups))
        some = replace(concepts, train=concepts.train[:, keep], test=concepts.test[:, keep], names=names, groups=groups)
        scores = reverse(features, some).values
        found |= {f"bits, {name}": scores["bits"], f"NMI, {name}": scores["nmi"]}
        if name == "all":
            found["bits, shuffled"] = scores["shuffled_bits"]
    return {name: score.to_json() for name, score in found.items()}


def transfer(networks: list[str], data: str, folder: Path | None, side: int) -> dict[str, Any]:
    """A copy fine-tuned for classes, pixels and boxes; baseline: the same from random weights."""
    from selfsight.api import Run
    from selfsight.data.opening import open_source
    from selfsight.data.source import Subset
    from selfsight.workflows.evaluate.run import evaluate_representation

    rows, probes = {}, ["finetune", "segment", "detect"]
    for network in networks:
        run = Run(network)
        if folder:
            whole = open_source(folder / "images", size=side, truth=folder / "boxes")
            order, probes = np.random.default_rng(0).permutation(len(whole)), ["detect"]
            train, test = Subset(whole, order[: len(order) * 7 // 10]), Subset(whole, order[len(order) * 7 // 10 :])
        else:
            size = run.phi.size
            train, test = (
                open_source(WORLD.format(count=count, size=size, split=split)) for count, split in ((1000, "train"), (300, "test"))
            )
        progress = lambda words, network=network: print(f"{network}: {words}", flush=True)  # noqa: E731
        found = evaluate_representation(run.phi, run.path, train=train, test=test, probes=probes, progress=progress)
        plain = found.to_json()
        rows[Path(network).name] = {"backbone": run.phi.spec, **{name: plain[name] for name in ("scores", "floors", "protocol")}}
    return {"data": data, "rows": rows}


def keep(name: str, result: dict[str, Any]) -> None:
    from selfsight.core.origin import origin

    RESULTS.mkdir(exist_ok=True)
    before = json.loads((RESULTS / f"{name}.json").read_text()) if (RESULTS / f"{name}.json").exists() else {"rows": {}}
    rows = {**before["rows"], **result["rows"]}
    (RESULTS / f"{name}.json").write_text(json.dumps({**result, "rows": rows, "commit": origin()["commit"]}, indent=1) + "\n")


def _share(score: dict[str, float]) -> str:
    return f"{100 * score['value']:.1f} ± {50 * (score['high'] - score['low']):.1f}"


def write_page() -> None:
    """The tables of the documentation."""
    lines = [
        "# Linear and reverse probing, and fine-tuning",
        "",
        "Written by `recipes/measures.py`; do not edit. ± is half of a 95 % interval.",
    ]
    for path in sorted(RESULTS.glob("*.json")):
        read = json.loads(path.read_text())
        lines += _probing_page(read) if path.stem == "probing" else _transfer_page(read)
    PAGE.write_text("\n".join(lines) + "\n")


def _probing_page(read: dict[str, Any]) -> list[str]:
    names = list(next(iter(read["rows"].values())))
    body = []
    for network, row in sorted(read["rows"].items(), key=lambda item: -item[1]["bits, object"]["value"]):
        cells = [_share(row[name]) if name in ("knn", "linear") else f"{row[name]['value']:.3f}" for name in names]
        body.append(f"| {network} | {' | '.join(cells)} |")
    return [
        "",
        "## Linear and reverse probing: scenes",
        "",
        f"`{read['backbone']}`, ten thousand scenes of 32 px, three minutes of one core each; 3,000 test scenes; untrained: the mean of",
        f"{SEEDS} seeds. k-NN and linear probe: accuracy in percent. Reverse probe: bits of 32 clusters of the features that concepts predict, and",
        "the same as a fraction of the clusters' entropy (NMI): all concepts; those of the object (outline, texture, value, hue, scale, angle); the",
        f"others ({', '.join(NUISANCES)}). Concepts that are shuffled over images predict nothing. Commit {read['commit']}.",
        "",
        f"| network | {' | '.join(name for name in names)} |",
        "|---|" + "--:|" * len(names),
        *body,
    ]


def _transfer_page(read: dict[str, Any]) -> list[str]:
    lines = ["", f"## Fine-tuning: {read['data']}", ""]
    for network, row in read["rows"].items():
        lines += [f"`{network}` (`{row['backbone']}`):", "", "| score | trained | untrained |", "|---|--:|--:|"]
        for probe, scores in row["scores"].items():
            baseline = row["floors"]["untrained"][probe]
            lines += [
                f"| {probe}: {name.replace('/', ', ')} | {_share(score)} | {_share(baseline[name])} |" for name, score in scores.items()
            ]
        lines.append("")
    lines += [f"{probe}: {words}." for probe, words in row["protocol"].items()]  # the same for all
    return [*lines, "", f"Commit {read['commit']}."]


def main() -> int:
    parser = argparse.ArgumentParser(description="Fine-tuning and reverse probing of several networks.")
    parser.add_argument("--learn", type=Path, help="train some methods into this folder")
    parser.add_argument("--minutes", type=float, default=3)
    parser.add_argument("--probing", nargs="*", default=[], help="runs of one architecture, for linear and reverse probing")
    parser.add_argument("--transfer", nargs="*", default=[], help="runs to fine-tune")
    parser.add_argument("--data", default="scenes", help="name of the table")
    parser.add_argument("--folder", type=Path, help="photographs with boxes, instead of scenes")
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--pages", action="store_true")
    read = parser.parse_args()
    if read.learn:
        learn(read.learn, read.minutes)
    if read.probing:
        keep("probing", probing(read.probing))
    for network in read.transfer:
        keep(f"transfer-{read.data}", transfer([network], read.data, read.folder, read.side))
    write_page()
    return 0


if __name__ == "__main__":
    sys.exit(main())
