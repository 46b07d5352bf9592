"""Readers of ground truth: CSV tables, COCO JSON, folders of VOC XML, YOLO text and masks.

Each returns the ground truth of the images in the order of their names; images that a file does not mention stay unknown.
"""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from xml.etree import ElementTree

import numpy as np

from selfsight.core.errors import DataError, UsageError
from selfsight.core.spreadsheets import original_text
from selfsight.data.classes import class_number, number_classes
from selfsight.data.listing import Annotations
from selfsight.data.masks import MaskFiles, polygons_mask
from selfsight.data.readers.folder import IMAGE_SUFFIXES
from selfsight.data.source import LazySequence, Truth

__all__ = ["kept_rows", "read_truth"]

_FILES = ("file", "filename", "file_name", "path", "image", "name", "id")
_LABELS = ("label", "class", "category", "target", "class_index")
_CLASSES = ("class_name", "label_name", "name", "category_name")
_GROUPS = ("group", "video", "person", "sequence")
Known = TypeVar("Known")


def read_truth(path: Path, names: Sequence[str], before: Annotations | None = None) -> Annotations:
    """Read the ground truth of images from a file or folder.

    The format is recognised by the content: a ``.csv`` or ``.tsv`` table; a ``.json`` file in COCO format; a folder with ``.xml`` (VOC),
    with ``.txt`` (YOLO) or with images (masks, one per image, of the same stem).

    Args:
        path: the file or folder.
        names: names of the images.
        before: annotations known without it; kept unless the reader replaces them.

    Raises:
        DataError: the format is unknown, the file is damaged, or it mentions none of the images.
    """
    known = (before or Annotations()).truth
    reader = _reader(path)
    try:
        found = reader(path, _Finder(names))
    except (ValueError, KeyError, TypeError, IndexError, OSError, ElementTree.ParseError) as problem:
        raise DataError(
            f"The ground truth in {path} cannot be read: {problem!r}.", "Check that it is a complete CSV, COCO, VOC or YOLO file."
        ) from None
    changes = {name: value for name in found.truth.__dataclass_fields__ if not _empty(value := getattr(found.truth, name))}
    if "attributes" in changes:
        changes["attributes"] = {**known.attributes, **found.truth.attributes}
    return Annotations(replace(known, **changes), found.fractions)


def _empty(value: object) -> bool:
    return value is None or (isinstance(value, tuple | dict) and not value)


def _reader(path: Path) -> Callable[[Path, "_Finder"], Annotations]:
    if path.is_file():
        reader = {".csv": _table, ".tsv": _table, ".json": _coco}.get(path.suffix.lower())
    else:
        endings = {entry.suffix.lower() for entry in path.rglob("*")} if path.is_dir() else set()
        reader = _voc if ".xml" in endings else _masks if endings & IMAGE_SUFFIXES else _yolo if ".txt" in endings else None
    if reader is None:
        raise DataError(
            f"{path} has no ground truth in a known format.", "Use a .csv, a COCO .json, or a folder of VOC .xml, YOLO .txt or masks."
        )
    return reader


class _Finder:
    """Rows by the name that a file uses for an image: full path, end of the path, file name, or stem."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self._exact = {name: row for row, name in enumerate(names)}
        self._loose: dict[str, int] = {}
        for row, name in enumerate(names):
            for alias in (
                PurePosixPath(name).name,
                str(PurePosixPath(name).with_suffix("")) if name else "",
                PurePosixPath(name).stem,
            ):
                self._loose[alias] = -1 if self._loose.get(alias, row) != row else row

    def __call__(self, name: str) -> int | None:
        """The row, or None; an ambiguous name has no row."""
        normalised = name.replace("\\", "/").removeprefix("./")
        path = PurePosixPath(normalised)
        if normalised in self._exact:
            return self._exact[normalised]
        for alias in (normalised, str(path.with_suffix("")) if path.name else normalised, path.name, path.stem):
            row = self._loose.get(alias, -1)
            if row >= 0:
                return row
        return None

    def spread(self, found: Mapping[int, Known], absent: Known, path: Path) -> list[Known]:
        """One value per image.

        Raises:
            DataError: none of the images was found.
        """
        if not found:
            raise DataError(
                f"{path} mentions none of the {len(self.names)} images.", f"Its names must match, for example {self.names[0]!r}."
            )
        return [found.get(row, absent) for row in range(len(self.names))]


def _row_of(cell: str, find: _Finder) -> int | None:
    row = find(cell)
    return find(original_text(cell)) if row is None else row


def _table(path: Path, find: _Finder) -> Annotations:
    """A table with a header: a column of files, optionally a class (number or name) and a group; all other columns are attributes.

    Text that was marked as such for spreadsheets (``core.spreadsheets``) is read as it was.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        rows, heading = list(reader), [name for name in reader.fieldnames or [] if name]
    lower = {name.lower(): name for name in heading}
    files = next((lower[name] for name in _FILES if name in lower), None)
    if files is None:
        raise DataError(
            f"{path} has no column of files; its columns are {', '.join(heading)}.", f"Use one of the names: {', '.join(_FILES)}."
        )
    found = {row: entry for entry in rows if (row := _row_of(entry[files] or "", find)) is not None}
    ordered = find.spread(found, {}, path)
    columns = {name: [original_text(entry.get(name) or "") for entry in ordered] for name in heading if name != files}
    label = next((lower[name] for name in _LABELS if name in lower and lower[name] != files), None)
    truth = Truth() if label is None else number_classes(columns[label], _names_of(columns, lower, label))
    group = next((lower[name] for name in _GROUPS if name in lower), None)
    groups = None if group is None else _numbered(columns[group])[0]
    return Annotations(replace(truth, groups=groups, attributes={name: _typed(values) for name, values in columns.items()}))


def _names_of(columns: Mapping[str, list[str]], lower: Mapping[str, str], label: str) -> dict[int, str]:
    """Class names by class number, from a column with one name for each number."""
    for name in _CLASSES:
        if name in lower and lower[name] in columns:
            pairs = {(class_number(value), text) for value, text in zip(columns[label], columns[lower[name]], strict=True) if text}
            pairs = {(number, text) for number, text in pairs if number is not None and number != -1}
            if len({number for number, _ in pairs}) == len(pairs) and all(isinstance(number, int) for number, _ in pairs):
                return {int(number): text for number, text in pairs}
    return {}


def _numbered(values: Sequence[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    classes = tuple(sorted({value for value in values if value}))
    number = {name: index for index, name in enumerate(classes)}
    return np.array([number.get(value, -1) for value in values], dtype=np.int64), classes


def _typed(values: list[str]) -> np.ndarray:
    """Numbers if all values are numbers or missing, else text."""
    try:
        return np.array([float(value) if value else np.nan for value in values]) if any(values) else np.array(values, dtype=object)
    except ValueError:
        return np.array(values, dtype=object)


def _coco(path: Path, find: _Finder) -> Annotations:
    """Boxes and masks (polygons or uncompressed run lengths) of COCO instances; an image has the class of its largest box."""
    content = json.loads(path.read_text(encoding="utf-8"))
    order = {entry["id"]: index for index, entry in enumerate(sorted(content.get("categories", []), key=lambda entry: entry["id"]))}
    classes = tuple(entry["name"] for entry in sorted(content.get("categories", []), key=lambda entry: entry["id"]))
    images = {entry["id"]: (row, entry) for entry in content["images"] if (row := find(entry["file_name"])) is not None}
    objects: dict[int, list[dict[str, Any]]] = {row: [] for row, _ in images.values()}
    sizes = {row: (entry.get("height", 0), entry.get("width", 0)) for row, entry in images.values()}
    for entry in content.get("annotations", []):
        if entry["image_id"] in images and "bbox" in entry:
            objects[images[entry["image_id"]][0]].append(entry)
    ordered = find.spread(objects, [], path)

    def box(entry: Mapping[str, Any]) -> tuple[float, ...]:
        left, top, width, height = entry["bbox"]
        return float(left), float(top), float(left + width), float(top + height), float(order.get(entry.get("category_id"), -1))

    boxes = [_boxes([box(entry) for entry in entries]) for entries in ordered]
    crowds = [np.array([bool(entry.get("iscrowd")) for entry in entries], dtype=bool) for entries in ordered]
    shapes = [[entry.get("segmentation") for entry in entries] for entries in ordered]
    masks = None
    if any(shape for entries in shapes for shape in entries):
        masks = LazySequence(lambda row: polygons_mask(shapes[row], boxes[row], sizes.get(row, (1, 1))), range(len(shapes)))
    people = _presence(boxes, classes, "person")
    return Annotations(Truth(labels=_largest(boxes), classes=classes, boxes=boxes, crowds=crowds, masks=masks, attributes=people))


def _presence(boxes: Sequence[np.ndarray], classes: tuple[str, ...], name: str) -> dict[str, np.ndarray]:
    """Whether each image shows the named class, if it is among the classes; as the attribute ``people``."""
    return {"people": np.array([int((box[:, 4] == classes.index(name)).any()) for box in boxes])} if name in classes else {}


def _boxes(rows: Sequence[Sequence[float]]) -> np.ndarray:
    return np.array(rows, dtype=np.float32).reshape(-1, 5)


def _largest(boxes: Sequence[np.ndarray]) -> np.ndarray:
    areas = [(box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]) for box in boxes]
    return np.array([int(box[area.argmax(), 4]) if len(box) else -1 for box, area in zip(boxes, areas, strict=True)], dtype=np.int64)


def _voc(path: Path, find: _Finder) -> Annotations:
    """One XML file per image; pixels count from 1, and right and bottom are inclusive."""
    found: dict[int, list[tuple[str, tuple[float, ...]]]] = {}
    for file in sorted(path.rglob("*.xml")):
        root = ElementTree.parse(file).getroot()
        row = find(root.findtext("filename") or file.stem)
        row = find(file.stem) if row is None else row
        if row is not None:
            found[row] = [(entry.findtext("name") or "", _voc_box(entry)) for entry in root.iter("object")]
    ordered = find.spread(found, [], path)
    classes = tuple(sorted({name for entries in ordered for name, _ in entries}))
    boxes = [_boxes([(*box, classes.index(name)) for name, box in entries]) for entries in ordered]
    return Annotations(Truth(labels=_largest(boxes), classes=classes, boxes=boxes, attributes=_presence(boxes, classes, "person")))


def _voc_box(entry: ElementTree.Element) -> tuple[float, ...]:
    left, top, right, bottom = (float(entry.findtext(f"bndbox/{side}") or "nan") for side in ("xmin", "ymin", "xmax", "ymax"))
    return left - 1, top - 1, right, bottom


def _yolo(path: Path, find: _Finder) -> Annotations:
    """One text file per image, one line per object: class number, centre x, centre y, width, height as fractions of the image."""
    class_files = [file for name in ("classes.txt", "obj.names") for file in path.rglob(name)]
    classes = tuple(line.strip() for line in class_files[0].read_text().splitlines() if line.strip()) if class_files else ()
    found: dict[int, np.ndarray] = {}
    for file in sorted(path.rglob("*.txt")):
        row = find(file.stem)
        if row is not None and file not in class_files:
            lines = [[float(word) for word in line.split()[:5]] for line in file.read_text().splitlines() if line.strip()]
            found[row] = _boxes([(x - w / 2, y - h / 2, x + w / 2, y + h / 2, kind) for kind, x, y, w, h in lines])
    boxes = find.spread(found, np.zeros((0, 5), dtype=np.float32), path)
    if not classes:
        numbers = np.unique(np.concatenate([box[:, 4] for box in boxes]))
        boxes = [np.column_stack([box[:, :4], np.searchsorted(numbers, box[:, 4])]).astype(np.float32) for box in boxes]
        classes = tuple(f"{number:g}" for number in numbers)
    return Annotations(Truth(labels=_largest(boxes), classes=classes, boxes=boxes), fractions=True)


def _masks(path: Path, find: _Finder) -> Annotations:
    """One image of class numbers per image, with the same stem (or with ``_mask``, ``_gt`` or ``_seg`` appended); colours are one class."""
    found: dict[int, Path] = {}
    for file in sorted(path.rglob("*")):
        if file.suffix.lower() in IMAGE_SUFFIXES:
            stem = str(file.relative_to(path).with_suffix(""))
            row = find(stem)
            for ending in ("_mask", "_gt", "_seg", "-mask"):
                row = find(stem.removesuffix(ending)) if row is None else row
            if row is not None:
                found[row] = file
    files = find.spread(dict(found), None, path)
    return Annotations(Truth(masks=LazySequence(MaskFiles(files), range(len(files)))))


def kept_rows(truth: Truth, where: str, count: int) -> np.ndarray:
    """Rows that fulfil all conditions of a filter such as ``licence=cc0|cc-by,people=0``; ``label`` compares class names.

    Args:
        truth: ground truth with attributes.
        where: the filter.
        count: number of rows.

    Raises:
        UsageError: a condition cannot be parsed, or there is no such attribute.
    """
    keep = np.ones(count, dtype=bool)
    for condition in where.split(","):
        name, sign, wanted = (part.strip() for part in condition.partition("="))
        if not sign or not name:
            raise UsageError(f"{condition!r} is not a condition.", "Write for example licence=cc0,people=0.")
        column = truth.attributes.get(name)
        if column is None and name == "label" and truth.labels is not None:
            column = np.array([truth.classes[label] if 0 <= label < len(truth.classes) else "" for label in truth.labels], dtype=object)
        if column is None:
            raise UsageError(f"There is no attribute {name!r}.", f"Attributes: {', '.join(truth.attributes) or 'none'}.")
        keep &= np.isin([_canonical(value) for value in column], [_canonical(value) for value in wanted.split("|")])
    return np.flatnonzero(keep)


def _canonical(value: object) -> str:
    """Normalise a value: numbers as numbers, yes and no as 1 and 0, text without case."""
    text = str(value).strip().casefold()
    text = {"true": "1", "yes": "1", "false": "0", "no": "0"}.get(text, text)
    try:
        return f"{float(text):g}"
    except ValueError:
        return text
