"""Data sets of torchvision and of the Hugging Face hub. Nothing is downloaded unless requested."""

import inspect
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from selfsight.core.cache import digest
from selfsight.core.errors import DataError, MissingExtra, UsageError
from selfsight.core.names import parse_value
from selfsight.data.classes import number_classes
from selfsight.data.decode import Payload, Unreadable
from selfsight.data.listing import Annotations, Listing
from selfsight.data.source import LazySequence, Rows, Truth
from selfsight.data.spec import Spec, nearest

__all__ = ["IndexedListing", "hub_listing", "torchvision_listing"]

MOST_ITEMS = 20_000
"""Items that are decoded for their labels, where a data set has them nowhere else."""


class IndexedListing:
    """A data set that returns (image, ...) by index.

    Args:
        dataset: object with ``__len__`` and ``__getitem__``.
        spec: the user's name for it.
        fingerprint: changes when the data do.
        annotations: labels and attributes.
        column: index or name of the image in an item.
    """

    def __init__(self, dataset: Any, spec: str, fingerprint: str, annotations: Annotations, column: str | int) -> None:
        self.dataset, self.spec, self.fingerprint = dataset, spec, fingerprint
        self.annotations, self.column = annotations, column

    @property
    def names(self) -> Sequence[str]:
        return LazySequence(str, range(len(self.dataset)))

    def payloads(self, rows: Rows) -> Iterator[Payload | Unreadable]:
        for row in rows:
            try:
                value = self.dataset[int(row)][self.column]
            except (OSError, ValueError, SyntaxError) as problem:
                yield Unreadable(" ".join(str(problem).split())[:120])
                continue
            if isinstance(value, dict):
                value = value.get("bytes") or Path(value.get("path") or "")
            yield value if isinstance(value, bytes | Path | Image.Image) else Unreadable(f"a {type(value).__name__} is not an image")


def torchvision_listing(spec: Spec, size: int | None = None) -> Listing:  # noqa: ARG001
    """A data set of torchvision.

    Args:
        spec: ``torchvision:CIFAR10?root=DIR&train=true&download=false``; other options are passed to the data set unchanged.
        size: unused.

    Raises:
        UsageError: torchvision has no such data set, or it does not accept these options.
        DataError: it is not below ``root`` and download is off.
    """
    dataset_class = _dataset_class(spec)
    options = _options_of(spec, inspect.signature(dataset_class).parameters)
    try:
        dataset = dataset_class(**options)
        items = _end_items(dataset)
    except (RuntimeError, OSError) as problem:
        raise DataError(
            f"torchvision's {spec.name} is not below {options.get('root')}: {problem}",
            "Set its folder with root=, or add &download=true.",
        ) from None
    except (
        TypeError,
        ValueError,
        ArithmeticError,
        LookupError,
        AttributeError,
        AssertionError,
    ) as problem:  # options are not checked there
        raise UsageError(
            f"torchvision's {spec.name} rejects these options: {problem}",
            f"It has: {', '.join(inspect.signature(dataset_class).parameters)}.",
        ) from None
    truth, (labels, classes) = Truth(), _labels_of(dataset, items)
    if labels is not None:
        truth = number_classes(labels, dict(enumerate(map(str, classes))))
    given = {"root": "data"} | options
    fingerprint = digest((spec.name, repr(sorted(given.items())), str(len(dataset)), *_contents(dataset)))
    return IndexedListing(dataset, spec.text, fingerprint, Annotations(truth), 0)


def _dataset_class(spec: Spec) -> type:
    from torchvision import datasets

    found = getattr(datasets, spec.name, None)
    if found is None or not isinstance(found, type):
        raise UsageError(f"torchvision has no data set {spec.name!r}.", nearest(spec.name, list(datasets.__all__)))
    return found


def _options_of(spec: Spec, parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """The options of a data set as the types that it takes: text where its default is text, several numbers where that is a tuple."""
    options: dict[str, Any] = {"root": "data"} if "root" in parameters else {}
    for name, value in spec.options.items():
        if name not in parameters:
            raise UsageError(f"torchvision's {spec.name} has no option {name!r}.", f"It has: {', '.join(parameters)}.")
        item = parameters[name]
        if isinstance(item.default, tuple):
            options[name] = tuple(parse_value(part.strip()) for part in value.split(","))
        else:
            options[name] = value if item.annotation is str or isinstance(item.default, str) else parse_value(value)
    return options


def _contents(dataset: Any) -> Iterator[str | bytes]:
    """What changes when the images of a torchvision data set do: arrays in memory, or sizes and times of its files."""
    for name, found in sorted(vars(dataset).items()):
        if name == "data" and hasattr(found, "__array__"):
            yield np.ascontiguousarray(found).tobytes()
        elif isinstance(found, list | tuple) and len(found) == len(dataset):
            paths = (one[0] if isinstance(one, tuple | list) and one else one for one in found)
            for path in paths:
                if not isinstance(path, str | Path) or not os.path.isfile(path):  # noqa: PTH113 - a million files: strings, not Paths
                    break
                state = os.stat(path)  # noqa: PTH116
                yield f"{path}\0{state.st_size}\0{state.st_mtime_ns}"


def _end_items(dataset: Any) -> dict[int, Any]:
    """The first and the last item of a data set by their row, without those whose file cannot be read."""
    items: dict[int, Any] = {}
    for row in {0, len(dataset) - 1} if len(dataset) else ():
        with suppress(OSError, SyntaxError):  # a damaged image, which is reported with its row
            items[row] = dataset[row]
    return items


def _labels_of(dataset: Any, items: Mapping[int, Any]) -> tuple[Sequence[Any] | None, Sequence[Any]]:
    """Labels of a torchvision data set and names of its classes: an attribute that agrees with its first and last items, or its items."""
    named = {"_bin_labels": "bin_classes"}
    wanted = {row: _scalar(item[1]) for row, item in items.items()}
    if any(value is None for value in wanted.values()):
        return None, ()
    for name in ("targets", "labels", "_labels", "_targets", "_bin_labels", "_samples", "samples", "y"):
        values = _column(dataset, name)
        if values is not None and all(values[row] == value for row, value in wanted.items()):
            return values, getattr(dataset, named.get(name, "classes"), None) or getattr(dataset, "categories", None) or ()
    if not wanted or len(dataset) > MOST_ITEMS:
        logging.getLogger("selfsight.data").warning("%s has no list of labels, which are not read.", type(dataset).__name__)
        return None, ()
    return [_scalar(dataset[row][1]) for row in range(len(dataset))], ()


def _scalar(value: Any) -> Any:
    """A label: text, or a number; None for anything else, such as a mask or several attributes."""
    if isinstance(value, str):
        return value
    if np.ndim(value) == 0 and isinstance(getattr(value, "item", lambda: value)(), int | float):
        return getattr(value, "item", lambda: value)()
    return None


def _column(dataset: Any, name: str) -> list[Any] | None:
    """An attribute with one label per sample."""
    found = getattr(dataset, name, None)
    if found is None or not hasattr(found, "__len__") or len(found) != len(dataset):
        return None
    pairs = name in ("samples", "_samples")
    values = [row[1] for row in found if isinstance(row, tuple | list) and len(row) == 2] if pairs else list(found)
    if len(values) != len(dataset) or not all(np.ndim(value) == 0 or np.size(value) == 1 for value in values):
        return None
    return [value.item() if hasattr(value, "item") else value for value in values]


def hub_listing(spec: Spec, size: int | None = None) -> Listing:  # noqa: ARG001
    """A data set of the Hugging Face hub, with the package datasets and its cache.

    Args:
        spec: ``hf:OWNER/NAME?split=train&config=NAME``.
        size: unused.

    Raises:
        MissingExtra: the package is not installed.
        DataError: no such data set, no network, or it has no images.
    """
    spec.allow("split", "config", "where")
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingExtra("datasets", "hub", f"Opening {spec.text}") from None
    try:
        dataset = datasets.load_dataset(spec.name, spec.options.get("config"), split=spec.options.get("split", "train"))
    except (OSError, ValueError, RuntimeError) as problem:
        raise DataError(f"{spec.text} cannot be opened: {problem}", "Check the name and the network.") from None
    column = next((name for name, kind in dataset.features.items() if type(kind).__name__ == "Image"), None)
    if column is None:
        raise DataError(f"{spec.text} has no images; its columns are {', '.join(dataset.features)}.", "Use a data set of images.")
    dataset = dataset.cast_column(column, datasets.Image(decode=False))
    truth = Truth()
    if "label" in dataset.features:
        classes = getattr(dataset.features["label"], "names", None) or []
        truth = number_classes(list(dataset["label"]), dict(enumerate(classes)))
    return IndexedListing(dataset, spec.text, digest((dataset._fingerprint,)), Annotations(truth), column)
