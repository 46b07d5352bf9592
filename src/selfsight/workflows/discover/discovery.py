"""A discovery: a search and its scores."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Unpack

from selfsight.core.representation import Representation
from selfsight.data.source import Source
from selfsight.measure.results import Score
from selfsight.workflows.options import SearchOptions

__all__ = ["Discovery", "Judged"]

Judged = dict[str, Score]
"""Scores by metric."""


@dataclass(frozen=True)
class Discovery:
    """How something is found and scored.

    Attributes:
        find: function from representation, source and method to a result.
        judge: scores of a result; empty without annotations.
        fixed: options that baselines take from the result, such as its number of clusters.
        score_only: ``find`` and ``judge`` in one step for a baseline, where that is cheaper.
    """

    find: Callable[..., Any]
    judge: Callable[[Any, Source], Judged]
    fixed: Callable[[Any], Mapping[str, Any]] = lambda _: {}
    score_only: Callable[..., Judged] | None = None

    def baseline(self, phi: Representation, source: Source, method: str, **options: Unpack[SearchOptions]) -> Judged:
        """Scores of another representation, or of a method that needs none.

        Args:
            phi: the representation.
            source: the data set.
            method: a name from the registry of the discovery's methods.
            options: options of ``find``.
        """
        if self.score_only is not None:
            return self.score_only(phi, source, method, **options)
        return self.judge(self.find(phi, source, method, **options), source)
