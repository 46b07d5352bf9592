"""Tables for the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from selfsight.measure.probes.table import LAYER_PROBES, PROBES
from selfsight.measure.results import Score
from selfsight.workflows.evaluate.analyses.table import ANALYSES

__all__ = ["NAMES", "kind_of", "score_name", "score_rows", "score_table", "share_table", "words_of"]

NAMES = {
    ("knn", "top1"): "k-NN top-1",
    ("linear", "top1"): "linear top-1",
    ("cluster", "acc"): "clusters ACC",
    ("cluster", "nmi"): "clusters NMI",
    ("cluster", "ami"): "clusters AMI",
    ("cluster", "ari"): "clusters ARI",
    ("geometry", "alignment"): "alignment ↓",
    ("geometry", "uniformity"): "uniformity ↓",
    ("geometry", "effective_rank"): "effective rank",
    ("retrieve", "map"): "retrieval mAP",
    ("retrieve", "map_trapezoid"): "retrieval mAP, trapezoid",
    ("reverse", "bits"): "concepts tell, bits",
    ("reverse", "nmi"): "concepts tell, of H(c)",
    ("reverse", "nmi_mean"): "concepts tell, NMI",
    ("reverse", "top1"): "concepts tell, top-1",
    ("reverse", "ami"): "concepts tell, AMI",
    ("reverse", "shuffled_bits"): "shuffled concepts, bits",
    **{("retrieve", f"recall_{most}"): f"retrieval recall@{most}" for most in (1, 5, 10)},
    **{("svm", f"top1_of_{few}"): f"SVM top-1, {few} a class" for few in (1, 2, 4, 8, 16, 32, 64, 96)},
}
TRANSFER = frozenset(ANALYSES.having("transfer"))
PERCENT = frozenset((*PROBES.having("percent"), *LAYER_PROBES.having("percent"), *ANALYSES.having("percent")))


def score_name(probe: str, name: str) -> str:
    """What a score is called in tables."""
    return NAMES.get((probe, name), f"{probe} {name}")


def kind_of(probe: str, name: str) -> str:
    """How a score is written: a ``share`` in percent, a ``number``, or an ``index`` with three digits."""
    if probe in PERCENT or name == "acc" or "detectors" in name:
        return "share"
    return "number" if name == "effective_rank" else "index"


def words_of(score: Mapping[str, float] | None, kind: str) -> str:
    """A score with half of its interval, in the form of its kind; a dash where there is none."""
    if score is None:
        return "–"
    factor, digits = {"share": (100, 1), "number": (1, 1), "index": (1, 3)}[kind]
    half = (score["high"] - score["low"]) / 2
    if half == 0:
        return f"{score['value'] * factor:.{digits}f}"
    return f"{score['value'] * factor:.{digits}f} ± {half * factor:.{digits}f}"


def score_rows(plain: dict[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """One row a score: name, this run, untrained, pixels, and by how much it beats the better floor."""
    rows = []
    order = {pair: number for number, pair in enumerate(NAMES)}
    pairs = [(probe, name) for probe, scores in plain["scores"].items() for name in scores]
    for probe, name in sorted(pairs, key=lambda pair: order.get(pair, len(order))):
        score = plain["scores"][probe][name]
        kind = kind_of(probe, name)
        floors = [plain["floors"].get(floor, {}).get(probe, {}).get(name) for floor in ("untrained", "pixels")]
        known = [floor["value"] for floor in floors if floor is not None]
        gain = ""
        if known and (probe in TRANSFER or probe not in ("geometry", *ANALYSES)):
            difference = score["value"] - max(known)
            gain = f"{difference * 100:+.1f} points" if kind == "share" else f"{difference:+.3f}"
        shown = [words_of(one, kind) for one in (score, *floors)]
        rows.append((score_name(probe, name), shown[0], shown[1], shown[2], gain))
    return rows


def score_table(plain: dict[str, Any]) -> None:
    """Print scores beside their floors."""
    console = Console(width=max(Console().width, 96))
    table = Table(title="scores, with 95 % bootstrap intervals, beside their floors", title_justify="left")
    for number, heading in enumerate(("score", "this run", "untrained", "pixels", "above floors")):
        table.add_column(heading, justify="left" if not number else "right", no_wrap=True)
    for row in score_rows(plain):
        table.add_row(*row)
    console.print(table)
    console.print("[dim]↓ lower is better; above floors: over the better of the two[/dim]", highlight=False)
    for probe, words in plain["protocol"].items():
        console.print(f"[dim]{probe}: {words}[/dim]", highlight=False)


def share_table(scores: Mapping[str, Mapping[str, Score]]) -> None:
    """Print shares, by measure and then by contestant, the first of which is judged, with what it is above the best of the others."""
    table = Table(title="in percent, with 95 % bootstrap intervals", title_justify="left")
    table.add_column("")
    for name in scores:
        table.add_column(name, justify="right", no_wrap=True)
    for who in next(iter(scores.values()), {}):
        table.add_row(who, *(words_of(some[who].to_json() if who in some else None, "share") for some in scores.values()))
    Console().print(table)
    for name, some in scores.items():
        (first, judged), *others = some.items()
        if others:
            best, floor = max(others, key=lambda pair: pair[1].value)
            words = f"{name}: {first} {100 * (judged.value - floor.value):+.1f} points over {best}"
            Console().print(f"[dim]{words}[/dim]", highlight=False)
