"""Does each method learn? Its deciding probe on ``world:shapes`` beside the floors, over seeds, with times.

    python recipes/evidence.py                                  # nine methods, three seeds, then the GAN
    python recipes/evidence.py --methods simclr --seeds 0       # one of them; results are added to recipes/evidence.json

The probe that decides stands in the method's card and was written there before the method was tried. Ninety seconds a run
on two cores (token methods four minutes). The floors are those of ``selfsight measure``. The table is docs/look-up/evidence.md.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from selfsight.api import Run
from selfsight.assembly import Settings, build, world_options
from selfsight.core.clock import key
from selfsight.core.origin import origin
from selfsight.core.wishes import Wishes
from selfsight.data.opening import open_source
from selfsight.engine.checkpoint import load_checkpoint, newest_checkpoint
from selfsight.learning import Manner, learn_run
from selfsight.methods.table import METHODS, method_class

TRAIN = "world:shapes?count=10000&size=32&split=train"
TEST = "world:shapes?count=2000&size=32&split=test"
TOKENS = {"mae"}
HERE = Path(__file__).parent
RESULTS = HERE / "evidence.json"
PAGE = HERE.parent / "docs" / "look-up" / "evidence.md"


@dataclass(frozen=True)
class Task:
    """One run."""

    method: str
    seed: int
    minutes: float
    backbone: str | None = None

    @property
    def name(self) -> str:
        return self.method + (f" ({self.backbone.partition('?')[0]})" if self.backbone else "")


def _quiet(words: str) -> None:
    """Say nothing."""


def learn_and_measure(task: Task) -> dict[str, object]:
    """Learn from the world for the given time, then score the deciding probe and its floors."""
    with tempfile.TemporaryDirectory() as folder:
        wishes = Wishes(
            data=TRAIN,
            method=task.method,
            backbone=task.backbone,
            size=32,
            minutes=task.minutes,
            seed=task.seed,
            options=world_options(task.method),
        )
        started = time.perf_counter()
        summary = learn_run(wishes, Path(folder) / "run", Manner(say=_quiet))
        seconds = time.perf_counter() - started
        probe = method_class(task.method).card.probe
        steps = json.loads((Path(folder) / "run" / "config.json").read_text())["steps"]
        found = Run(Path(folder) / "run").measure(train=TRAIN, test=TEST, probes=["knn", "linear"])
    scores = {name: found.scores[name]["top1"].value for name in ("knn", "linear")}
    floors = {floor: {name: table[name]["top1"].value for name in ("knn", "linear")} for floor, table in found.floors.items()}
    return {
        "method": task.name,
        "seed": task.seed,
        "probe": probe,
        "scores": scores,
        "floors": floors,
        "status": summary["status"],
        "steps": steps,
        "seconds": round(seconds, 1),
        "views_per_second": summary["views_per_second"],
    }


def name_samples(seed: int, minutes: float) -> dict[str, object]:
    """Learn a GAN on real digits; a classifier of real digits names its samples."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        started = time.perf_counter()
        learn_run(Wishes(data="digits", method="gan", size=32, minutes=minutes, seed=seed), run, Manner(say=_quiet))
        seconds = time.perf_counter() - started
        settings = Settings.from_plain(json.loads((run / "config.json").read_text()))
        gan = build(settings)
        checkpoint = newest_checkpoint(run / "checkpoints", print)
        load_checkpoint(checkpoint, gan)
        gan.eval()
        codes = torch.randn(1000, 100, generator=torch.Generator().manual_seed(key(seed, 1)))
        with torch.no_grad():
            made = (gan.generator(codes) * 0.5 + 0.5).clamp(0, 1).numpy()
    source = open_source("digits", size=32)
    rows = np.random.default_rng(0).permutation(len(source))
    real, labels = source.read(rows).images / 255.0, source.truth(rows).labels
    judge = Judge(real[400:], labels[400:], real[:400])
    names = judge.names(made)
    counts = np.bincount(names[names >= 0], minlength=10)
    told = judge.names(real[:400])
    noise = judge.names(np.random.default_rng(0).random((1000, *real.shape[1:])))
    return {
        "method": "gan",
        "seed": seed,
        "classifier_accuracy": float((told == labels[:400])[told >= 0].mean()),
        "real_named": float((told >= 0).mean()),
        "noise_named": float((noise >= 0).mean()),
        "made_named": float((names >= 0).mean()),
        "digits": int((counts >= 10).sum()),
        "counts": counts.tolist(),
        "seconds": round(seconds, 1),
    }


class Judge:
    """Names a picture where its five nearest real digits agree and the nearest is no farther than is usual for real ones.

    A linear classifier would not do: it is sure of noise. Usual is what 95 % of held-out digits keep to.
    """

    def __init__(self, real: np.ndarray, labels: np.ndarray, held: np.ndarray) -> None:
        self.rows, self.labels = self._flat(real), labels
        self.far = float(np.quantile(self._nearest(held)[0][:, 0], 0.95))

    @staticmethod
    def _flat(images: np.ndarray) -> np.ndarray:
        return images.mean(1).reshape(len(images), -1).astype(np.float32)

    def _nearest(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = torch.cdist(torch.from_numpy(self._flat(images)), torch.from_numpy(self.rows)).topk(5, largest=False)
        return found.values.numpy(), found.indices.numpy()

    def names(self, images: np.ndarray) -> np.ndarray:
        """The digit, or -1 where there is none to be seen."""
        distances, places = self._nearest(images)
        votes = self.labels[places]
        agreed = (votes == votes[:, :1]).all(1) & (distances[:, 0] <= self.far)
        return np.where(agreed, votes[:, 0], -1)


def load() -> list[dict]:
    return json.loads(RESULTS.read_text())["results"] if RESULTS.is_file() else []


def keep(result: dict[str, object]) -> None:
    """Put a result in place of an older one of the same method and seed."""
    results = [old for old in load() if (old["method"], old["seed"]) != (result["method"], result["seed"])]
    here = origin()
    results.append(result | {"commit": here["commit"], "machine": here["processor"], "cores": here["cores"]})
    results.sort(key=lambda one: (one["method"], one["seed"]))
    RESULTS.write_text(json.dumps({"results": results}, indent=1) + "\n")


def spread(values: list[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{100 * statistics.mean(values):.1f} ± {100 * deviation:.1f}" if len(values) > 1 else f"{100 * values[0]:.1f}"


def maker(processor: str) -> str:
    """A processor's name without its trimmings."""
    return " ".join(word for word in processor.replace("(R)", "").split() if word != "Processor")


def write_page() -> None:
    """The table of the documentation."""
    results = load()
    learnt = [result for result in results if "scores" in result]
    lines = [
        "# Evidence",
        "",
        "Written by `recipes/evidence.py`; do not edit. Each method learns from 10,000 scenes of `world:shapes` (version 1, 32 px) without a",
        "label, for about ninety seconds (token methods four minutes); the probe that decides was written in its card beforehand. Scores are",
        "top-1 in percent on 2,000 other scenes, mean ± standard deviation over seeds. A floor is the strongest plain form of raw pixels, or of",
        "the same network untrained. Settings are the small presets, tuned on other seeds, with the views of `assembly.world_options`",
        "(decision 5). In the same time an AMD EPYC makes half the steps of an Intel Xeon, which multiplies bfloat16 tiles at once (AMX).",
        "",
        "| method | decides | score | untrained | pixels | above the better floor | the least | seeds | seconds | views/s | two cores of |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for name in sorted({result["method"] for result in learnt}):
        rows = [result for result in learnt if result["method"] == name]
        probe = rows[0]["probe"]
        values = [row["scores"][probe] for row in rows]
        untrained = [row["floors"]["untrained"][probe] for row in rows]
        pixels = [row["floors"]["pixels"][probe] for row in rows]
        gains = [value - max(pair) for value, *pair in zip(values, untrained, pixels, strict=True)]
        lines.append(
            f"| {name} | {'k-NN' if probe == 'knn' else probe} | {spread(values)} | {100 * statistics.mean(untrained):.1f} | "
            f"{100 * statistics.mean(pixels):.1f} | {100 * statistics.mean(gains):+.1f} | {100 * min(gains):+.1f} | {len(rows)} | "
            f"{statistics.mean(row['seconds'] for row in rows):.0f} | {statistics.mean(row['views_per_second'] for row in rows):,.0f} | "
            f"{', '.join(sorted({maker(row['machine']) for row in rows}))} |"
        )
    flagged = [f"{result['method']} (seed {result['seed']})" for result in learnt if result["status"] == "collapsed"]
    lines += ["", f"Flagged as collapsed while they learnt: {', '.join(flagged) or 'none'} of these {len(learnt)} runs."]
    for result in (one for one in results if one["method"] == "gan"):
        lines += [
            "",
            f"**GAN** (seed {result['seed']}, real digits, {result['seconds']:.0f} s): a picture is named where its five nearest real digits "
            f"agree ({100 * result['classifier_accuracy']:.1f} % of those named are right on held-out ones) and the nearest is no farther than for "
            f"95 % of real ones. Named: {100 * result['made_named']:.1f} % of 1,000 samples, {100 * result['real_named']:.1f} % of held-out "
            f"real digits, {100 * result['noise_named']:.1f} % of noise. Samples of each digit from 0 to 9: "
            f"{', '.join(map(str, result['counts']))}.",
        ]
    PAGE.write_text("\n".join(lines) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="Does each method learn?")
    nine = ",".join(name for name in METHODS if name != "gan")
    parser.add_argument("--methods", default=nine + ",gan")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--minutes", type=float, default=1.5)
    parser.add_argument("--backbone", default=None)
    read = parser.parse_args()
    for seed in (int(word) for word in read.seeds.split(",")):
        for method in read.methods.split(","):
            if method == "gan":
                result = name_samples(seed, read.minutes) if not seed else None
            else:
                tokens = method in TOKENS or (read.backbone or "").startswith("vit")
                minutes = max(read.minutes, 4.0) if tokens and read.minutes == 1.5 else read.minutes
                result = learn_and_measure(Task(method, seed, minutes, read.backbone))
            if result:
                keep(result)
                print(json.dumps(result), flush=True)
                write_page()
    return 0


if __name__ == "__main__":
    sys.exit(main())
