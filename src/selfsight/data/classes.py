"""Class numbers from the values of a label column, and classes of two data sets joined by name. Torch-free."""

import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import numpy as np
from jaxtyping import Int

from selfsight.core.errors import DataError
from selfsight.core.names import shortened
from selfsight.data.source import Rows, Source, Truth, WrappedSource

__all__ = ["RenumberedSource", "class_number", "join_classes", "number_classes", "unseen_classes"]

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)([.][0-9]+)?")
"""Texts that are numbers; others, such as 001 or 1e5, are names."""
_MISSING = frozenset(("", "nan", "none", "null", "na", "n/a"))


def number_classes(values: Sequence[Any], names: Mapping[int, str] | None = None) -> Truth:
    """Labels and class names from a column of class names or numbers.

    Classes are the values that occur, in ascending order, so that large or widely spaced numbers need no room. With ``names``, all named
    numbers are classes. Missing values, NaN, infinity and -1 are unknown; a column of only -1 and 1 has two classes. A column with fractions
    is no label, which is reported as a warning of ``selfsight.data``. Spaces around names do not count.

    Args:
        values: one per sample: text, a number, or None.
        names: class names by number, for numbers.
    """
    numbers = [class_number(value) for value in values]
    if any(isinstance(number, str) for number in numbers):
        texts = [None if number is None else _text(value) for value, number in zip(values, numbers, strict=True)]
        return _numbered(texts, sorted({text for text in texts if text is not None}), str)
    found = {number for number in numbers if number is not None}
    if not found:
        return Truth(labels=np.full(len(values), -1, dtype=np.int64))
    fractions = sorted(number for number in found if number != int(number))
    if fractions:
        logging.getLogger("selfsight.data").warning("The labels hold fractions, such as %g: they are not read as classes.", fractions[0])
        return Truth()
    integers = [None if number is None else int(number) for number in numbers]
    if found != {-1, 1}:
        integers = [None if number == -1 else number for number in integers]
    named = names or {}
    classes = sorted({number for number in integers if number is not None} | set(named))
    return _numbered(integers, classes, lambda number: named.get(number, str(number)))


def class_number(value: Any) -> float | int | str | None:
    """A number, text that is none, or None if missing; whole numbers are integers, also where they are written as 1.0.

    Args:
        value: a label.
    """
    if value is None or (isinstance(value, Real) and math.isnan(value)):
        return None
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        number = float(value)
        return None if math.isinf(number) else int(number) if number.is_integer() else number
    text = _text(value)
    if text.casefold() in _MISSING:
        return None
    number = float(text) if _NUMBER.fullmatch(text) else math.inf  # a number of 400 digits is a name, too
    return text if math.isinf(number) else int(text.partition(".")[0]) if number == int(number) else number


def _text(value: Any) -> str:
    return (value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)).strip()


def _numbered(values: Sequence[Any], classes: Sequence[Any], name: Callable[[Any], str]) -> Truth:
    number = {value: index for index, value in enumerate(classes)}
    labels = np.array([-1 if value is None else number[value] for value in values], dtype=np.int64)
    texts = [name(value) for value in classes]
    twice = {text for text in texts if texts.count(text) > 1} if len(set(texts)) < len(texts) else set()
    return Truth(
        labels=labels, classes=tuple(f"{text} ({value})" if text in twice else text for text, value in zip(texts, classes, strict=True))
    )


def _occurring(truth: Truth) -> set[int]:
    """Class numbers of labels and boxes."""
    columns = [] if truth.labels is None else [truth.labels]
    columns += [np.asarray(boxes)[:, 4] for boxes in truth.boxes or () if len(boxes)]
    return {int(number) for number in np.unique(np.concatenate(columns)) if number >= 0} if columns else set()


def unseen_classes(train: Truth, test: Truth) -> tuple[str, ...]:
    """Names of the test classes without a training sample, after ``join_classes``.

    Args:
        train: ground truth of the training data.
        test: ground truth of the test data.
    """
    names = test.classes
    return tuple(names[number] if number < len(names) else str(number) for number in sorted(_occurring(test) - _occurring(train)))


def join_classes(train: Source, test: Source) -> tuple[Source, Source]:
    """Both data sets with one numbering of their classes, joined by name.

    Each reader numbers the classes of its own data: without this, class 0 of a test folder without ``ant`` would be compared with ``ant``.
    Classes of the training data keep their numbers; those that only the test data have follow. Data without class names are returned as
    they are.

    Args:
        train: the training data.
        test: the test data.

    Raises:
        DataError: both have class names, and no class with samples is shared.
    """
    truths = train.truth(np.arange(len(train))), test.truth(np.arange(len(test)))
    ours, theirs = (truth.classes for truth in truths)
    if not ours or not theirs:
        return train, test
    joined = ours + tuple(name for name in theirs if name not in set(ours))
    known, seen = (
        {classes[number] for number in _occurring(truth) if number < len(classes)}
        for truth, classes in zip(truths, (ours, theirs), strict=True)
    )
    if known and seen and not known & seen:
        raise DataError(
            f"The training data {train.spec} and the test data {test.spec} share no class: {_quoted(known)}; {_quoted(seen)}.",
            "Use data with the same classes, or rename the folders or labels; class names are compared exactly.",
        )
    if joined == ours == theirs:
        return train, test
    number = {name: index for index, name in enumerate(joined)}
    return RenumberedSource(train, np.arange(len(ours)), joined), RenumberedSource(
        test, np.array([number[name] for name in theirs]), joined
    )


def _quoted(names: set[str]) -> str:
    return shortened([repr(name) for name in sorted(names)])


class RenumberedSource(WrappedSource):
    """A source whose class numbers are translated; everything else is unchanged.

    Args:
        source: the data set.
        numbers: new number of each of its classes.
        classes: names of all classes.
    """

    def __init__(self, source: Source, numbers: Int[np.ndarray, " class"], classes: tuple[str, ...]) -> None:
        super().__init__(source)
        self.numbers, self.classes = np.append(numbers, -1), classes

    def truth(self, rows: Rows) -> Truth:
        """Ground truth with the translated class numbers in labels and boxes."""
        truth = self.source.truth(rows)
        labels = None if truth.labels is None else self._translated(truth.labels)
        boxes = (
            None
            if truth.boxes is None
            else [np.column_stack([box[:, :4], self._translated(box[:, 4])]).astype(box.dtype) for box in truth.boxes]
        )
        return replace(truth, labels=labels, boxes=boxes, classes=self.classes)

    def _translated(self, numbers: np.ndarray) -> np.ndarray:
        """New numbers; -1 stays, and a number without a name has no class."""
        indices = numbers.astype(np.int64)
        return self.numbers[np.where((indices < 0) | (indices >= len(self.numbers) - 1), -1, indices)]
