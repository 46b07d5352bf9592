"""The type of an analysis, and functions that select its main scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from selfsight.core.representation import Representation
from selfsight.measure.analysis.inputs import AnalysisInput
from selfsight.measure.results import Scores
from selfsight.render.charts import Drawing, draw_bars

__all__ = ["FEW", "SMALL", "Analysis", "last_of", "named"]

FEW, SMALL = 64, 16
"""Side in pixels above which fewer images are used; minimum side of images whose tile borders are repaired."""


@dataclass(frozen=True)
class Analysis:
    """An analysis of a whole network.

    Attributes:
        measure: function from a network and its input to scores.
        main: selects the scores for a table of several networks; all by default.
        draw: draws its scores into a figure; bars by default.
    """

    measure: Callable[[Representation, AnalysisInput], Scores]
    main: Callable[[Sequence[str]], list[str]] = list
    draw: Drawing = draw_bars


def named(*endings: str) -> Callable[[Sequence[str]], list[str]]:
    """Select scores by the endings of their names."""
    return lambda names: [name for name in names if name.endswith(endings)]


def last_of(*endings: str) -> Callable[[Sequence[str]], list[str]]:
    """Select, among scores with the same beginning and ending, the last one: that of the deepest layer."""

    def main(names: Sequence[str]) -> list[str]:
        last = {(name.split("/")[0], name.split("/")[-1]): name for name in names if name.endswith(endings)}
        return list(last.values())

    return main
