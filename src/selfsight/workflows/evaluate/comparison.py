"""Comparison of several networks by the same scores: one table, one figure, one file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from selfsight.core.json_text import json_text
from selfsight.render.charts import png_of
from selfsight.render.palette import PALETTE
from selfsight.render.panels import inlined, interval, panel, table
from selfsight.workflows.evaluate.analyses.table import ANALYSES
from selfsight.workflows.evaluate.probes import EvaluationResult
from selfsight.workflows.evaluate.tables import kind_of, score_name, words_of

__all__ = ["Comparison", "comparison_figure", "comparison_table", "main_scores"]

COLUMNS = 8
"""Up to this number of scores all are shown; above it, the main ones of each probe."""
MAIN = {
    "cluster": ("acc", "ami"),
    "geometry": ("effective_rank",),
    "reverse": ("bits", "nmi"),
    "retrieve": ("map",),
    "svm": ("top1_of_1", "top1_of_8"),
}
Pair = tuple[str, str]


@dataclass(frozen=True)
class Comparison:
    """Results of several networks.

    Attributes:
        found: results by the network's name.
        about: the data, and a description of each network.
    """

    found: Mapping[str, EvaluationResult]
    about: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Scores and baselines by run, with the protocol of each probe; what ``--json`` prints and ``comparison.json`` contains."""
        runs = {name: found.to_json() for name, found in self.found.items()}
        protocols = [found["protocol"] for found in runs.values()]
        protocol = {probe: text for each in protocols[::-1] for probe, text in each.items()}
        return {**self.about, "protocol": protocol, "runs": {name: _without(found, "protocol") for name, found in runs.items()}}

    def save(self, folder: Path) -> list[Path]:
        """Write ``comparison.json`` and ``comparison.png``; returns their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        content, paths = self.to_json(), [folder / "comparison.json", folder / "comparison.png"]
        paths[0].write_text(json_text(content, indent=1) + "\n")
        paths[1].write_bytes(comparison_figure(content))
        return paths

    def _repr_html_(self) -> str:
        content = self.to_json()
        pairs = main_scores(content)
        networks = {name: run["scores"] for name, run in content["runs"].items()}
        baselines = {f"baseline: {name}": found for name, found in _baselines(content, pairs).items()}
        rows = [(score_name(*pair), *(_cell(found, pair) for found in (networks | baselines).values())) for pair in pairs]
        comparison = table(("score", *networks, *baselines), rows)
        return panel("Comparison of networks, with 95 % intervals", comparison, inlined(comparison_figure(content), "a bar per network"))


def _cell(table: Mapping[str, Any], pair: Pair) -> str | None:
    score = _value(table, pair)
    return None if score is None else interval(score["value"], score["low"], score["high"])


def _without(table: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key != name}


def _value(table: Mapping[str, Any], pair: Pair) -> dict[str, float] | None:
    return table.get(pair[0], {}).get(pair[1])


def main_scores(content: Mapping[str, Any]) -> list[Pair]:
    """Scores in the table: all if there are few, otherwise the main ones of each probe (of ``layers`` the last layer's)."""
    names: dict[str, dict[str, None]] = {}
    for run in content["runs"].values():
        for probe, scores in run["scores"].items():
            names.setdefault(probe, {}).update(dict.fromkeys(scores))
    all_scores = [(probe, name) for probe, scores in names.items() for name in scores]
    if len(all_scores) <= COLUMNS:
        return all_scores
    selected = []
    for probe, scores in names.items():
        if probe in ANALYSES:
            main = ANALYSES.load(probe).main(list(scores))
        else:
            main = list(scores)[-1:] if probe == "layers" else [name for name in MAIN.get(probe, tuple(scores)) if name in scores]
        selected += [(probe, name) for name in main]
    return selected


def _baselines(content: Mapping[str, Any], pairs: list[Pair]) -> dict[str, Mapping[str, Any]]:
    """Scores of baselines by label; networks with the same baseline share a row."""
    baselines: dict[str, Mapping[str, Any]] = {}
    for baseline in ("untrained", "pixels"):
        groups: list[tuple[list[str], Mapping[str, Any]]] = []
        for name, run in content["runs"].items():
            table = run["floors"].get(baseline, {})
            values = [_value(table, pair) for pair in pairs]
            existing = next((group for group in groups if [_value(group[1], pair) for pair in pairs] == values), None)
            if existing is not None:
                existing[0].append(name)
            elif any(values):
                groups.append(([name], table))
        for members, table in groups:
            label = baseline if len(groups) == 1 else f"{baseline}, of {', '.join(members)}"
            baselines[label] = table
    return baselines


def comparison_table(content: Mapping[str, Any]) -> None:
    """Print a row per network and a column per score, with baselines below."""
    pairs = main_scores(content)
    table = Table(title="scores, with 95 % bootstrap intervals, and baselines below", title_justify="left")
    table.add_column("", no_wrap=True)
    for pair in pairs:
        table.add_column(score_name(*pair).replace("/", "\n"), justify="right")
    rows = {name: run["scores"] for name, run in content["runs"].items()}
    for number, part in enumerate((rows, _baselines(content, pairs))):
        if number:
            table.add_section()
        for name, scores in part.items():
            cells = [words_of(_value(scores, pair), kind_of(*pair)) for pair in pairs]
            table.add_row(escape(name), *cells, style="dim" if number else "")
    width = 4 + max(map(len, [*rows, *_baselines(content, pairs)])) + sum(max(14, 3 + len(score_name(*pair)) // 2) for pair in pairs)
    console = Console(width=max(Console().width, width))
    console.print(table)
    total = len(
        {pair for run in content["runs"].values() for probe, scores in run["scores"].items() for pair in ((probe, n) for n in scores)}
    )
    if total > len(pairs):
        console.print(f"[dim]{len(pairs)} of {total} scores; all are in the JSON[/dim]", highlight=False)


def comparison_figure(content: Mapping[str, Any]) -> bytes:
    """A panel per score with a bar and an interval per network; a black mark is its untrained baseline, a dotted line raw pixels. PNG."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    pairs, runs = main_scores(content), content["runs"]
    columns = min(len(pairs), 3)
    lines = -(-len(pairs) // columns)
    longest = max(map(len, runs))
    figure = Figure(
        figsize=((2.7 + 0.075 * min(longest, 30)) * columns + 0.4, (0.34 * len(runs) + 1.0) * lines + 0.5), layout="constrained"
    )
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True).flatten()
    for axes, pair in zip(grid, pairs, strict=False):
        _panel(axes, runs, pair)
    for axes in grid[len(pairs) :]:
        axes.set_visible(False)
    handles = [Line2D([], [], color="black", marker="|", linestyle="", markersize=11, markeredgewidth=2, label="untrained")]
    handles += [Line2D([], [], color="black", linestyle=":", label="pixels")]
    if any(run["floors"] for run in runs.values()):
        figure.legend(handles=handles, loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    return png_of(figure)


def _panel(axes: Any, runs: Mapping[str, Any], pair: Pair) -> None:
    factor = 100 if kind_of(*pair) == "share" else 1
    for index, (_, run) in enumerate(runs.items()):
        score, baseline = _value(run["scores"], pair), _value(run["floors"].get("untrained", {}), pair)
        if score is not None:
            value, low, high = (factor * score[part] for part in ("value", "low", "high"))
            whiskers = [[max(value - low, 0)], [max(high - value, 0)]]
            axes.barh(index, value, 0.62, color=PALETTE[index % len(PALETTE)], xerr=whiskers, ecolor="#555555")
        if baseline is not None:
            axes.plot(factor * baseline["value"], index, "k|", markersize=15, markeredgewidth=2)
    pixels = next((found for run in runs.values() if (found := _value(run["floors"].get("pixels", {}), pair))), None)
    if pixels is not None:
        axes.axvline(factor * pixels["value"], color="black", linestyle=":", linewidth=1)
    axes.set_yticks(range(len(runs)), [name if len(name) <= 30 else f"…{name[-29:]}" for name in runs], fontsize=9, parse_math=False)
    axes.set_ylim(len(runs) - 0.4, -0.6)
    axes.set_title(score_name(*pair).replace("/", ", ") + (" (%)" if factor == 100 else ""), loc="left", fontsize=9, wrap=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", labelsize=8)
