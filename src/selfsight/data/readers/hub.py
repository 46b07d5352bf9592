"""Data sets of torchvision and of the Hugging Face hub. Nothing is downloaded unless requested."""

import inspect
from collections.abc import Iterator, Sequence
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
    from torchvision import datasets

    dataset_class = getattr(datasets, spec.name, None)
    if dataset_class is None or not isinstance(dataset_class, type):
        raise UsageError(f"torchvision has no data set {spec.name!r}.", nearest(spec.name, list(datasets.__all__)))
    parameters = inspect.signature(dataset_class).parameters
    options: dict[str, Any] = {"root": "data"}
    for name, value in spec.options.items():
        is_text = name in parameters and (parameters[name].annotation is str or isinstance(parameters[name].default, str))
        options[name] = value if is_text else parse_value(value)
    for name in options:
        if name not in parameters and not (name == "root" and "root" not in spec.options):
            raise UsageError(f"torchvision's {spec.name} has no option {name!r}.", f"It has: {', '.join(parameters)}.")
    try:
        dataset = dataset_class(**{name: value for name, value in options.items() if name in parameters})
    except (TypeError, ValueError) as problem:
        raise UsageError(f"torchvision's {spec.name} rejects these options: {problem}", f"It has: {', '.join(parameters)}.") from None
    except (RuntimeError, OSError) as problem:
        raise DataError(
            f"torchvision's {spec.name} is not below {options['root']}: {problem}",
            "Set its folder with root=, or add &download=true.",
        ) from None
    truth = Truth()
    if (labels := _labels_of(dataset)) is not None:
        truth = number_classes(
            labels, dict(enumerate(map(str, getattr(dataset, "classes", None) or getattr(dataset, "categories", None) or ())))
        )
    fingerprint = digest((spec.name, repr(sorted(options.items())), str(len(dataset))))
    return IndexedListing(dataset, spec.text, fingerprint, Annotations(truth), 0)


def _labels_of(dataset: Any) -> Sequence[Any] | None:
    """Labels of a torchvision data set, under one of the names that they have there."""
    for name in ("targets", "labels", "_labels", "_targets", "_samples", "samples", "y"):
        found = getattr(dataset, name, None)
        if found is None or not hasattr(found, "__len__") or len(found) != len(dataset):
            continue
        pairs = name in ("samples", "_samples")
        values = [row[1] for row in found if isinstance(row, tuple | list) and len(row) == 2] if pairs else list(found)
        if len(values) == len(dataset) and all(np.ndim(value) == 0 or np.size(value) == 1 for value in values):
            return [value.item() if hasattr(value, "item") else value for value in values]
    return None


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
