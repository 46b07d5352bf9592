"""Features, and scores with their intervals."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int

from selfsight.core.errors import DataError
from selfsight.core.finite import require_finite
from selfsight.core.readout import Readout
from selfsight.data.source import Truth
from selfsight.render.panels import facts, interval, panel, table

__all__ = ["Features", "Score", "Scores", "bootstrap_table", "proportion"]

DRAWS = 1000
"""Bootstrap samples for the interval of a proportion."""


@dataclass(frozen=True)
class Score:
    """A value with its 95 % bootstrap interval over test samples; fractions lie in [0, 1].

    Attributes:
        value: value over all test samples.
        low: lower bound of the interval.
        high: upper bound of the interval.
    """

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        """As JSON, rounded to six digits."""
        return {name: round(float(getattr(self, name)), 6) for name in ("value", "low", "high")}

    def _repr_html_(self) -> str:
        return str(interval(self.value, self.low, self.high))


@dataclass(frozen=True)
class Scores:
    """Result of one measure.

    Attributes:
        values: scores by name.
        protocol: description of the measurement.
        readout: the fitted model, if any.
    """

    values: dict[str, Score]
    protocol: str
    readout: Readout | None = None

    def _repr_html_(self) -> str:
        rows = [(name, interval(score.value, score.low, score.high)) for name, score in self.values.items()]
        return panel("Scores, with 95 % intervals", table(("score", ""), rows), facts({"protocol:": self.protocol}))


@dataclass(frozen=True)
class Features:
    """Features of a training and a test part, with their annotations.

    Attributes:
        train: features (N, D) of the training part.
        test: features (M, D) of the test part.
        train_labels: labels (N,); -1: unknown.
        test_labels: labels (M,); -1: unknown.
        classes: names of the classes.
        twins: features of two views of each of some test images, for alignment.
        truths: all annotations of both parts, for measures that need more than labels.

    Raises:
        DataError: some features are NaN or infinite.
    """

    train: Float[np.ndarray, "train dim"]
    test: Float[np.ndarray, "test dim"]
    train_labels: Int[np.ndarray, " train"] | None = None
    test_labels: Int[np.ndarray, " test"] | None = None
    classes: tuple[str, ...] = ()
    twins: tuple[np.ndarray, np.ndarray] | None = field(default=None)
    truths: tuple[Truth, Truth] | None = None

    def __post_init__(self) -> None:
        require_finite(self.train, "training")
        require_finite(self.test, "test")

    @property
    def known(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Features and labels of the labelled samples of both parts.

        Raises:
            DataError: a part has no labelled sample.
        """
        assert self.train_labels is not None and self.test_labels is not None  # noqa: PT018
        train, test = self.train_labels >= 0, self.test_labels >= 0
        for part, known in (("training", train), ("test", test)):
            if not known.any():
                raise DataError(f"None of the {len(known):,} {part} samples has a label.", "Use labelled data, or the probe geometry.")
        return self.train[train], self.train_labels[train], self.test[test], self.test_labels[test]


def proportion(correct: Bool[np.ndarray, " sample"], seed: int = 0) -> Score:
    """Fraction of true values, with a bootstrap interval (binomial distribution of resampled counts).

    Args:
        correct: mask (N,).
        seed: seed of the interval.
    """
    count, value = len(correct), float(correct.mean())
    draws = np.random.default_rng(seed).binomial(count, value, DRAWS) / count
    low, high = np.quantile(draws, (0.025, 0.975))
    return Score(value, float(low), float(high))


def bootstrap_table(
    table: Int[np.ndarray, "row column"], measures: dict[str, Callable[[np.ndarray], float]], seed: int = 0, draws: int = 200
) -> dict[str, Score]:
    """Scores of a contingency table with bootstrap intervals; resampling samples resamples the cells multinomially.

    Args:
        table: contingency table (R, C).
        measures: functions of a table by name of the score.
        seed: seed of the intervals.
        draws: bootstrap samples.
    """
    generator, total = np.random.default_rng(seed), int(table.sum())
    drawn = generator.multinomial(total, table.ravel() / total, draws).reshape(draws, *table.shape)
    scores = {}
    for name, measure in measures.items():
        low, high = np.quantile([measure(drawn_table) for drawn_table in drawn], (0.025, 0.975))
        scores[name] = Score(measure(table), float(low), float(high))
    return scores
