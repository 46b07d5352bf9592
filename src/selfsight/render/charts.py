"""Figures of analyses, drawn from their scores alone, as saved in ``measures/NAME.json``."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from selfsight.render.palette import GREY, PALETTE

__all__ = [
    "Drawing",
    "draw_bars",
    "draw_cues",
    "draw_dissection",
    "draw_equivariance",
    "draw_network_measure",
    "draw_similarity",
    "draw_stitching",
    "draw_transfer",
    "png_of",
]

Values = Mapping[str, Mapping[str, float]]
"""Scores by name: value, low, high."""


def png_of(figure: Any) -> bytes:
    """A figure as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=120)
    return buffer.getvalue()


Drawing = Callable[[Any, Values, Values], None]
"""Draws the scores of the network and of the untrained one (may be empty) into a matplotlib figure."""


def draw_network_measure(draw: Drawing, scores: Values, untrained: Values, title: str) -> bytes:
    """One figure of an analysis, as PNG.

    Args:
        draw: drawing function, such as ``draw_bars``.
        scores: scores of the network.
        untrained: scores of the untrained network; may be empty.
        title: title of the figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    draw(figure, scores, untrained)
    return png_of(figure)


def _plain(axes: Any, title: str) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, loc="left", fontsize=10)


def _unique(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(names))


def draw_equivariance(figure: Any, scores: Values, untrained: Values) -> None:
    """A panel per transformation with a line per kind of map over layers; the untrained network below.

    Args:
        figure: a matplotlib figure.
        scores: value, low and high by name.
        untrained: the same of the untrained network; may be empty.
    """
    parts = [name.split("/") for name in scores]
    changes, layers, kinds = (_unique([part[index] for part in parts]) for index in range(3))
    rows = {"": scores} | ({"untrained: ": untrained} if untrained else {})
    figure.set_size_inches(4.4 * len(changes) + 1.6, 3.1 * len(rows) + 0.3)
    grid = figure.subplots(len(rows), len(changes), squeeze=False, sharey=True, sharex=True)
    for line, (prefix, table) in zip(grid, rows.items(), strict=True):
        for axes, change in zip(line, changes, strict=True):
            for kind, colour in zip(kinds, ("black", *PALETTE), strict=False):
                values = [table[f"{change}/{layer}/{kind}"]["value"] for layer in layers]
                axes.plot(layers, values, ":" if kind == "constant" else "-", marker="o", markersize=4, color=colour, label=kind)
            axes.set_ylim(bottom=0)
            axes.tick_params(axis="x", rotation=30 if len(layers) > 5 else 0)
            _plain(axes, f"{prefix}{change}")
        line[0].set_ylabel("relative error")
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=9)


def draw_similarity(figure: Any, scores: Values, untrained: Values) -> None:
    """A matrix of layers by layers, for the network itself and with each other network.

    Args:
        figure: a matplotlib figure.
        scores: value, low and high by name.
        untrained: the same of the untrained network; may be empty.
    """
    pairs = [name.split("/") for name in scores if name.count("/") == 1]
    layers = _unique([part for pair in pairs for part in pair])
    panels: list[tuple[str, list[str], Values, str]] = [("this network", layers, scores, "")]
    panels += [("untrained", layers, untrained, "")] if untrained else []
    others = [name.split("/") for name in scores if name.count("/") == 2]
    for other in _unique([part[1] for part in others]):
        panels.append((f"with {other}", _unique([part[2] for part in others if part[1] == other]), scores, f"{other}/"))
    side = max(0.62 * max(len(columns) for _, columns, *_ in panels) + 1.4, 3.4)
    figure.set_size_inches(side * len(panels) + 0.6, 0.5 * len(layers) + 1.9)
    image = None
    for axes, (title, columns, table, other) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        values = np.array([[_pair(table, row, f"{other}{column}") for column in columns] for row in layers])
        image = axes.imshow(values, vmin=0, vmax=1, cmap="viridis", aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color="black" if value > 0.6 else "white")
        axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", fontsize=8)
        axes.set_yticks(range(len(layers)), layers, fontsize=8)
        axes.set_title(title, loc="left", fontsize=10)
    figure.colorbar(image, ax=figure.axes, label="CKA", fraction=0.03)


def _pair(table: Values, left: str, right: str) -> float:
    found = table.get(f"{left}/{right}") or table.get(f"{right}/{left}")
    return found["value"] if found else 1.0


def _bars(axes: Any, scores: Values, untrained: Values, names: Mapping[str, str]) -> None:
    """Horizontal bars with intervals, each with that of the untrained network below it."""
    for index, name in enumerate(names):
        for shift, table, colour in ((-0.19, scores, PALETTE[0]), (0.19, untrained, GREY)):
            if name in table:
                score = table[name]
                whiskers = [[max(score["value"] - score["low"], 0)], [max(score["high"] - score["value"], 0)]]
                axes.barh(
                    index + shift,
                    score["value"],
                    0.36,
                    color=colour,
                    xerr=whiskers if score["high"] > score["low"] else None,
                    ecolor="#555555",
                )
    axes.set_yticks(range(len(names)), list(names.values()), fontsize=8)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(left=0)


def _key(figure: Any, *, untrained: bool) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=PALETTE[0], label="this network")] + ([Patch(color=GREY, label="untrained")] if untrained else [])
    figure.legend(handles=handles, loc="outside upper right", frameon=False, fontsize=9, ncols=2)


def draw_cues(figure: Any, scores: Values, untrained: Values) -> None:
    """Shape bias and coverage, and accuracy of the original against shuffled tiles.

    Args:
        figure: a matplotlib figure.
        scores: value, low and high by name.
        untrained: the same of the untrained network; may be empty.
    """
    figure.set_size_inches(9.6, 2.9)
    _key(figure, untrained=bool(untrained))
    titles = {"conflict": "Cue conflict: shape and texture", "whole": "Original against shuffled tiles"}
    for axes, (group, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        _bars(axes, scores, untrained, {name: name.split("/")[1] for name in scores if name.startswith(group)})
        axes.set_xlim(0, 1)
        if group == "whole":
            axes.axvline(0.5, color="black", linestyle=":", linewidth=1)
        _plain(axes, title)


def draw_dissection(figure: Any, scores: Values, untrained: Values) -> None:
    """A panel per category: the largest IoU of any unit with each concept.

    Args:
        figure: a matplotlib figure.
        scores: value, low and high by name.
        untrained: the same of the untrained network; may be empty.
    """
    layers = _unique([name.split("/")[0] for name in scores])
    categories = _unique([name.split("/")[1].split(" ")[0] for name in scores if "detectors among" not in name and "best IoU" not in name])
    counts = [max(sum(name.startswith(f"{layer}/{category} ") for name in scores) for layer in layers) for category in categories]
    figure.set_size_inches(3.1 * len(categories) + 0.6, (0.27 * max(counts) + 0.9) * len(layers) + 0.5)
    _key(figure, untrained=bool(untrained))
    for line, layer in zip(figure.subplots(len(layers), len(categories), squeeze=False, sharex=True), layers, strict=True):
        for axes, category in zip(line, categories, strict=True):
            start = f"{layer}/{category} "
            _bars(axes, scores, untrained, {name: name.removeprefix(start) for name in scores if name.startswith(start)})
            axes.axvline(0.04, color="black", linestyle=":", linewidth=1)
            axes.set_xlabel("largest IoU of a unit", fontsize=8)
            _plain(axes, category if len(layers) == 1 else f"{layer}: {category}")


def draw_stitching(figure: Any, scores: Values, untrained: Values) -> None:
    """A panel per other network with three bars per layer.

    Args:
        figure: a matplotlib figure.
        scores: value, low and high by name.
        untrained: the same of the untrained network; may be empty.
    """
    parts = [name.split("/") for name in scores if "/" in name]
    others = _unique([part[0] for part in parts])
    most = max(len([1 for part in parts if part[0] == other]) for other in others)
    figure.set_size_inches(max(0.42 * most + 1.6, 4.4) * len(others) + 2.0, 3.3)
    for axes, other in zip(figure.subplots(1, len(others), squeeze=False, sharey=True)[0], others, strict=True):
        layers = _unique([part[1] for part in parts if part[0] == other])
        for shift, bar, colour in ((-0.27, "before training", "#bbbbbb"), (0.0, "naive", PALETTE[1]), (0.27, "learned", PALETTE[0])):
            heights = [100 * scores[f"{other}/{layer}/{bar}"]["value"] for layer in layers]
            axes.bar_label(axes.bar(np.arange(len(layers)) + shift, heights, 0.25, label=bar, color=colour), fmt="%.0f", fontsize=7)
        if untrained:
            baseline = [100 * untrained[f"{other}/{layer}/learned"]["value"] for layer in layers]
            axes.plot(range(len(layers)), baseline, "k_", markersize=16, label="learned, lower part\nuntrained")
        axes.axhline(100 * scores["not stitched"]["value"], color="black", linestyle=":", linewidth=1, label="not stitched")
        axes.set_xticks(range(len(layers)), layers, rotation=20, ha="right", fontsize=8)
        axes.set_ylim(0, 105)
        _plain(axes, f"lower part of {other}, up to")
    figure.axes[0].set_ylabel("error (%)")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=9)


def draw_transfer(figure: Any, scores: Values, untrained: Values) -> None:
    """The bars of ``draw_bars`` from 0 to 1, for a fine-tuned copy of the network.

    Args:
        figure: a matplotlib figure.
        scores: value, low and high by name.
        untrained: the same of the untrained network; may be empty.
    """
    draw_bars(figure, scores, untrained)
    figure.axes[0].set_xlim(0, 1)
    _plain(figure.axes[0], "Fine-tuned copy of the network")


def draw_bars(figure: Any, scores: Values, untrained: Values) -> None:
    """A bar per score with its interval, and the value of the untrained network.

    Args:
        figure: a matplotlib figure.
        scores: value, low and high by name.
        untrained: the same of the untrained network; may be empty.
    """
    figure.set_size_inches(7.2, 0.42 * len(scores) + 1.1)
    _key(figure, untrained=bool(untrained))
    _bars(figure.subplots(), scores, untrained, {name: name.replace("/", ", ") for name in scores})
