"""Several networks by the same measures: one table, one picture, one file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from selfsight.render.charts import png_of
from selfsight.render.figures import PALETTE
from selfsight.render.panels import inlined, interval, panel, table
from selfsight.workflows.evaluate.analyses.table import ANALYSES
from selfsight.workflows.evaluate.probes import EvaluationResult
from selfsight.workflows.evaluate.tables import kind_of, score_name, words_of

__all__ = ["Comparison", "comparison_figure", "comparison_table", "main_scores"]

COLUMNS = 8
"""So many scores are all shown; of more, the main ones of each probe."""
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
    """What was found of several networks.

    Attributes:
        found: what each examination found, by the network's name.
        about: what they were measured on, and what each network is.
    """

    found: Mapping[str, EvaluationResult]
    about: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Scores and floors by run, with the protocol of each probe; what ``--json`` prints and ``comparison.json`` holds."""
        runs = {name: found.to_json() for name, found in self.found.items()}
        words = [found["protocol"] for found in runs.values()]
        protocol = {probe: told for each in words[::-1] for probe, told in each.items()}
        return {**self.about, "protocol": protocol, "runs": {name: _without(found, "protocol") for name, found in runs.items()}}

    def save(self, folder: Path) -> list[Path]:
        """Write ``comparison.json`` and ``comparison.png``; return their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        plain, paths = self.to_json(), [folder / "comparison.json", folder / "comparison.png"]
        paths[0].write_text(json.dumps(plain, indent=1) + "\n")
        paths[1].write_bytes(comparison_figure(plain))
        return paths

    def _repr_html_(self) -> str:
        plain = self.to_json()
        pairs = main_scores(plain)
        networks = {name: run["scores"] for name, run in plain["runs"].items()}
        floors = {f"floor: {words}": found for words, found in _floors(plain, pairs).items()}
        rows = [(score_name(*pair), *(_cell(found, pair) for found in (networks | floors).values())) for pair in pairs]
        told = table(("score", *networks, *floors), rows)
        return panel("Networks by the same measures, with 95 % intervals", told, inlined(comparison_figure(plain), "a bar a network"))


def _cell(table: Mapping[str, Any], pair: Pair) -> str | None:
    score = _value(table, pair)
    return None if score is None else interval(score["value"], score["low"], score["high"])


def _without(table: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key != name}


def _value(table: Mapping[str, Any], pair: Pair) -> dict[str, float] | None:
    return table.get(pair[0], {}).get(pair[1])


def main_scores(plain: Mapping[str, Any]) -> list[Pair]:
    """The scores that stand in the table: all if they are few, else the main ones of each probe (the last layer's, of ``layers``)."""
    names: dict[str, dict[str, None]] = {}
    for run in plain["runs"].values():
        for probe, scores in run["scores"].items():
            names.setdefault(probe, {}).update(dict.fromkeys(scores))
    every = [(probe, name) for probe, scores in names.items() for name in scores]
    if len(every) <= COLUMNS:
        return every
    chosen = []
    for probe, scores in names.items():
        if probe in ANALYSES:
            main = ANALYSES.load(probe).main(list(scores))
        else:
            main = list(scores)[-1:] if probe == "layers" else [name for name in MAIN.get(probe, tuple(scores)) if name in scores]
        chosen += [(probe, name) for name in main]
    return chosen


def _floors(plain: Mapping[str, Any], pairs: list[Pair]) -> dict[str, Mapping[str, Any]]:
    """Tables of floors by their words; networks whose floors are the same share a row."""
    found: dict[str, Mapping[str, Any]] = {}
    for floor in ("untrained", "pixels"):
        groups: list[tuple[list[str], Mapping[str, Any]]] = []
        for name, run in plain["runs"].items():
            table = run["floors"].get(floor, {})
            shown = [_value(table, pair) for pair in pairs]
            same = next((group for group in groups if [_value(group[1], pair) for pair in pairs] == shown), None)
            if same is not None:
                same[0].append(name)
            elif any(shown):
                groups.append(([name], table))
        for members, table in groups:
            words = floor if len(groups) == 1 else f"{floor}, of {', '.join(members)}"
            found[words] = table
    return found


def comparison_table(plain: Mapping[str, Any]) -> None:
    """Print a row a network, a column a score, and the floors below."""
    pairs = main_scores(plain)
    table = Table(title="scores, with 95 % bootstrap intervals, and their floors below", title_justify="left")
    table.add_column("", no_wrap=True)
    for pair in pairs:
        table.add_column(score_name(*pair).replace("/", "\n"), justify="right")
    rows = {name: run["scores"] for name, run in plain["runs"].items()}
    for number, part in enumerate((rows, _floors(plain, pairs))):
        if number:
            table.add_section()
        for name, scores in part.items():
            shown = [words_of(_value(scores, pair), kind_of(*pair)) for pair in pairs]
            table.add_row(name, *shown, style="dim" if number else "")
    width = 4 + max(map(len, [*rows, *_floors(plain, pairs)])) + sum(max(14, 3 + len(score_name(*pair)) // 2) for pair in pairs)
    console = Console(width=max(Console().width, width))
    console.print(table)
    several = len(
        {pair for run in plain["runs"].values() for probe, scores in run["scores"].items() for pair in ((probe, n) for n in scores)}
    )
    if several > len(pairs):
        console.print(f"[dim]{len(pairs)} of {several} scores; all are in the JSON[/dim]", highlight=False)


def comparison_figure(plain: Mapping[str, Any]) -> bytes:
    """A panel a score, a bar a network with its interval; its untrained twin is a black stroke, raw pixels a dotted line. PNG."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    pairs, runs = main_scores(plain), plain["runs"]
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
    keys = [Line2D([], [], color="black", marker="|", linestyle="", markersize=11, markeredgewidth=2, label="untrained")]
    keys += [Line2D([], [], color="black", linestyle=":", label="pixels")]
    if any(run["floors"] for run in runs.values()):
        figure.legend(handles=keys, loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    return png_of(figure)


def _panel(axes: Any, runs: Mapping[str, Any], pair: Pair) -> None:
    factor = 100 if kind_of(*pair) == "share" else 1
    for place, (_, run) in enumerate(runs.items()):
        score, floor = _value(run["scores"], pair), _value(run["floors"].get("untrained", {}), pair)
        if score is not None:
            value, low, high = (factor * score[part] for part in ("value", "low", "high"))
            whiskers = [[max(value - low, 0)], [max(high - value, 0)]]
            axes.barh(place, value, 0.62, color=PALETTE[place % len(PALETTE)], xerr=whiskers, ecolor="#555555")
        if floor is not None:
            axes.plot(factor * floor["value"], place, "k|", markersize=15, markeredgewidth=2)
    pixels = next((found for run in runs.values() if (found := _value(run["floors"].get("pixels", {}), pair))), None)
    if pixels is not None:
        axes.axvline(factor * pixels["value"], color="black", linestyle=":", linewidth=1)
    axes.set_yticks(range(len(runs)), [name if len(name) <= 30 else f"…{name[-29:]}" for name in runs], fontsize=9, parse_math=False)
    axes.set_ylim(len(runs) - 0.4, -0.6)
    axes.set_title(score_name(*pair).replace("/", ", ") + (" (%)" if factor == 100 else ""), loc="left", fontsize=9, wrap=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", labelsize=8)
