"""The main methods on all of CIFAR-10, on a GPU: accuracy, images per second, minutes; one JSON per run and a page.

    python recipes/cifar10.py --root path/to/cifar10                                # 200 epochs each
    python recipes/cifar10.py --root path/to/cifar10 --epochs 20 --methods simclr   # fewer
    python recipes/cifar10.py --pages                                               # only rewrite docs/look-up/cifar10.md

Presets for small images, with batches of 256. Runs with a result for as many epochs are repeated only with ``--again``.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "cifar10"
PAGE = HERE.parent / "docs" / "look-up" / "cifar10.md"
METHODS = ("simclr", "moco", "byol", "barlow", "vicreg", "swav", "dino", "mae", "rotnet", "supervised")
BATCH = 256


def learn_and_measure(method: str, read: argparse.Namespace) -> dict[str, Any]:
    """One run, scored on the test images."""
    import torch

    from selfsight.api import Run
    from selfsight.core.origin import origin
    from selfsight.workflows.train.request import TrainRequest
    from selfsight.workflows.train.run import RunPolicy, run_training

    train_data, test = (f"{read.root}/{part}.parquet" for part in ("train", "test"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        wishes = TrainRequest(data=train_data, method=method, size=32, batch=BATCH, epochs=read.epochs, seed=read.seed, device=read.device)
        started = time.perf_counter()
        summary = run_training(wishes, path, RunPolicy(progress=_quiet))
        seconds = time.perf_counter() - started
        config = json.loads((path / "config.json").read_text())
        found = Run(path, device=read.device).measure(train=train_data, test=test, probes=["knn", "linear"], baselines=False)
    here = origin()
    return {
        "method": method,
        "seed": read.seed,
        "epochs": read.epochs,
        "backbone": config["backbone"],
        "steps": config["steps"],
        "status": summary["status"],
        "scores": {probe: round(scores["top1"].value, 5) for probe, scores in found.scores.items()},
        "images_per_second": round(summary["images"] / summary["seconds"]),
        "minutes": round(seconds / 60, 2),
        "machine": torch.cuda.get_device_name() if read.device == "cuda" else here["processor"],
        "beside": read.beside,
        "commit": here["commit"],
    }


def _quiet(words: str) -> None:
    """Ignore a message."""


def write_page() -> None:
    """The table of the documentation."""
    rows = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    lines = [
        "# All of CIFAR-10",
        "",
        "Written by `recipes/cifar10.py`; do not edit. 50,000 training images, 10,000 test images, k-NN (20 neighbours) and linear probe, in",
        "percent. The copy consists of JPEG files (quality 75): compare methods with each other, not with published results. Presets for small",
        f"images, batches of {BATCH}; one seed.",
        "",
        "| method | network | epochs | k-NN | linear | images/s | minutes | machine | parallel runs |",
        "|---|---|--:|--:|--:|--:|--:|---|--:|",
    ]
    for row in sorted(rows, key=lambda row: (row["epochs"], row["method"])):
        knn, linear = (100 * row["scores"][probe] for probe in ("knn", "linear"))
        lines.append(
            f"| {row['method']} | `{row['backbone']}` | {row['epochs']:g} | {knn:.1f} | {linear:.1f} | {row['images_per_second']:,} | "
            f"{row['minutes']:.1f} | {row['machine']} | {row['beside']} |"
        )
    PAGE.write_text("\n".join(lines) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="The main methods on all of CIFAR-10.")
    parser.add_argument("--root", default="")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--epochs", type=float, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--beside", type=int, default=0, help="number of other runs on the machine, which is recorded")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--pages", action="store_true")
    read = parser.parse_args()
    if wrong := sorted(set(read.methods.split(",")) - set(METHODS)):
        parser.error(f"no method {wrong[0]!r}; there are {', '.join(METHODS)}")
    if not read.pages and not (Path(read.root) / "train.parquet").is_file():
        parser.error(f"--root {read.root or '.'} has no train.parquet")
    for method in [] if read.pages else read.methods.split(","):
        path = RESULTS / f"{method}-{read.seed}-{read.epochs:g}.json"
        if path.is_file() and not read.again:
            continue
        result = learn_and_measure(method, read)
        RESULTS.mkdir(exist_ok=True)
        path.write_text(json.dumps(result, indent=1) + "\n")
        print(f"{method}: k-NN {100 * result['scores']['knn']:.1f}, {result['minutes']:.1f} minutes", flush=True)
    write_page()
    return 0


if __name__ == "__main__":
    sys.exit(main())
