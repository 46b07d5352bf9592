"""Score tables for the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from selfsight.measure.probes.table import LAYER_PROBES, PROBES
from selfsight.measure.results import Score
from selfsight.workflows.evaluate.analyses.table import ANALYSES

__all__ = ["NAMES", "kind_of", "lower_is_better", "score_name", "score_rows", "score_table", "share_table", "words_of"]

NAMES = {
    ("knn", "top1"): "k-NN top-1",
    ("linear", "top1"): "linear top-1",
    ("cluster", "acc"): "clusters ACC",
    ("cluster", "nmi"): "clusters NMI",
    ("cluster", "ami"): "clusters AMI",
    ("cluster", "ari"): "clusters ARI",
    ("geometry", "alignment"): "alignment",
    ("geometry", "uniformity"): "uniformity",
    ("geometry", "effective_rank"): "effective rank",
    ("retrieve", "map"): "retrieval mAP",
    ("retrieve", "map_trapezoid"): "retrieval mAP, trapezoid",
    ("reverse", "bits"): "reverse probe, bits",
    ("reverse", "nmi"): "reverse probe, fraction of H(c)",
    ("reverse", "nmi_mean"): "reverse probe, NMI",
    ("reverse", "top1"): "reverse probe, top-1",
    ("reverse", "ami"): "reverse probe, AMI",
    ("reverse", "shuffled_bits"): "reverse probe, shuffled, bits",
    **{("retrieve", f"recall_{most}"): f"retrieval recall@{most}" for most in (1, 5, 10)},
    **{("svm", f"top1_of_{few}"): f"SVM top-1, {few} a class" for few in (1, 2, 4, 8, 16, 32, 64, 96)},
}
TRANSFER = frozenset(ANALYSES.having("transfer"))
PERCENT = frozenset((*PROBES.having("percent"), *LAYER_PROBES.having("percent"), *ANALYSES.having("percent")))


def score_name(probe: str, name: str) -> str:
    """Name of a score in tables; an arrow down marks those of which lower is better.

    Args:
        probe: name of the probe.
        name: name of the score.
    """
    return NAMES.get((probe, name), f"{probe} {name}") + (" ↓" if lower_is_better(probe, name) else "")


def lower_is_better(measure: str, score: str) -> bool:
    """Direction of a score.

    Args:
        measure: name of a probe or analysis.
        score: name of the score.
    """
    return PROBES.lower_is_better(measure, score) or ANALYSES.lower_is_better(measure, score)


def kind_of(probe: str, name: str) -> str:
    """Format of a score: a ``share`` in percent, a ``number``, or an ``index`` with three digits.

    Args:
        probe: name of the probe.
        name: name of the score.
    """
    if probe in PERCENT or name == "acc" or "detectors" in name:
        return "share"
    return "number" if name == "effective_rank" else "index"


def words_of(score: Mapping[str, float] | None, kind: str) -> str:
    """A score with half of its interval as text; a dash if there is none.

    Args:
        score: value, low and high; None: no score.
        kind: format of the score, by ``kind_of``.
    """
    if score is None:
        return "–"
    factor, digits = {"share": (100, 1), "number": (1, 1), "index": (1, 3)}[kind]
    half = (score["high"] - score["low"]) / 2
    if half == 0:
        return f"{score['value'] * factor:.{digits}f}"
    return f"{score['value'] * factor:.{digits}f} ± {half * factor:.{digits}f}"


def score_rows(result: dict[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """One row per score: name, this run, untrained, pixels, and the difference to the better baseline."""
    rows = []
    order = {pair: number for number, pair in enumerate(NAMES)}
    pairs = [(probe, name) for probe, scores in result["scores"].items() for name in scores]
    for probe, name in sorted(pairs, key=lambda pair: order.get(pair, len(order))):
        score = result["scores"][probe][name]
        kind = kind_of(probe, name)
        baselines = [result["floors"].get(baseline, {}).get(probe, {}).get(name) for baseline in ("untrained", "pixels")]
        known = [baseline["value"] for baseline in baselines if baseline is not None]
        gain = ""
        if known and (probe in TRANSFER or probe not in ("geometry", *ANALYSES)):
            difference = score["value"] - max(known)
            gain = f"{difference * 100:+.1f} points" if kind == "share" else f"{difference:+.3f}"
        cells = [words_of(value, kind) for value in (score, *baselines)]
        rows.append((score_name(probe, name), cells[0], cells[1], cells[2], gain))
    return rows


def score_table(result: dict[str, Any]) -> None:
    """Print scores and baselines."""
    console = Console(width=max(Console().width, 96))
    table = Table(title="scores and baselines, with 95 % bootstrap intervals", title_justify="left")
    for number, heading in enumerate(("score", "this run", "untrained", "pixels", "above baselines")):
        table.add_column(heading, justify="left" if not number else "right", no_wrap=True)
    for row in score_rows(result):
        table.add_row(*map(escape, row))
    console.print(table)
    console.print("[dim]↓ lower is better; above baselines: difference to the better baseline[/dim]", highlight=False)
    for note in result.get("notes", ()):
        console.print(f"note: {note}", highlight=False, markup=False)
    for probe, protocol in result["protocol"].items():
        console.print(f"{probe}: {protocol}", style="dim", highlight=False, markup=False)


def share_table(scores: Mapping[str, Mapping[str, Score]]) -> None:
    """Print fractions by metric and then by method, the evaluated method first, and its difference to the best of the others."""
    table = Table(title="in percent, with 95 % bootstrap intervals", title_justify="left")
    table.add_column("")
    for name in scores:
        table.add_column(name, justify="right", no_wrap=True)
    for method in next(iter(scores.values()), {}):
        table.add_row(
            escape(method),
            *(words_of(by_method[method].to_json() if method in by_method else None, "share") for by_method in scores.values()),
        )
    Console().print(table)
    for name, by_method in scores.items():
        (first, score), *others = by_method.items()
        if others:
            best, baseline = max(others, key=lambda pair: pair[1].value)
            points = 100 * (score.value - baseline.value)
            difference = f"{name}: {first} {abs(points):.1f} points {'above' if points >= 0 else 'below'} {best}"
            Console().print(difference, style="dim", highlight=False, markup=False)
