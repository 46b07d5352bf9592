"""Images inside archives: tar files in WebDataset format, and Parquet tables in Hugging Face format."""

import json
import logging
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from selfsight.core.cache import digest
from selfsight.core.errors import DataError
from selfsight.data.classes import number_classes
from selfsight.data.decode import Payload, Unreadable
from selfsight.data.listing import Annotations, display
from selfsight.data.readers.folder import IMAGE_SUFFIXES, class_folders
from selfsight.data.source import Rows, Truth

__all__ = ["ParquetListing", "TarListing", "columns_truth"]

LABELS = ("label", "labels", "fine_label", "class")
"""Columns of labels; the first one that is present counts."""


def _stamp(paths: Sequence[Path]) -> str:
    return digest(f"{path.name}\0{path.stat().st_size}\0{path.stat().st_mtime_ns}" for path in paths)


class TarListing:
    """Uncompressed tar files, in the given order.

    An image is a sample: ``a/7.jpg``, with ``a/7.cls`` (class) or ``a/7.json`` (attributes; ``label`` or ``cls`` is the class). Of samples
    with several named images, such as ``a/7.input.jpg`` and ``a/7.target.png``, the first image is read.

    Attributes:
        skipped: number of files that are not read, by ending or reason.

    Raises:
        DataError: not a tar file, it ends too early, or it has no images.
    """

    def __init__(self, paths: Sequence[Path], spec: str) -> None:
        self.paths, self.spec = tuple(paths), spec
        self.fingerprint = _stamp(self.paths)
        self._places: list[tuple[int, int, int]] = []
        self._names: list[str] = []
        rows: list[dict[str, Any]] = []
        multiple_files, skipped = len(self.paths) > 1, Counter[str]()
        for shard, path in enumerate(self.paths):
            prefix = f"{path.name}/" if multiple_files else ""
            for name, position, annotations in _members(path, skipped):
                self._names.append(display(prefix + name))
                self._places.append((shard, *position))
                rows.append(annotations)
        self.skipped = dict(skipped)
        if not rows:
            raise DataError(f"There are no images in {spec}.", "It should contain STEM.jpg with STEM.cls or STEM.json.")
        truth = columns_truth(_renamed(_columns(rows), ""), ())
        self.annotations = Annotations(truth if truth.labels is not None or multiple_files else class_folders(self._names))

    @property
    def names(self) -> Sequence[str]:
        return self._names

    def payloads(self, rows: Rows) -> Iterator[Payload | Unreadable]:
        opened, file = -1, None
        try:
            for row in rows:
                shard, start, size = self._places[row]
                if shard != opened:
                    if file is not None:
                        file.close()
                    opened, file = shard, self.paths[shard].open("rb")
                assert file is not None
                file.seek(start)
                yield file.read(size)
        finally:
            if file is not None:
                file.close()


@dataclass(frozen=True)
class _Member:
    """An image or a side file in a tar archive."""

    name: str
    start: int
    size: int
    content: bytes | None = None

    @property
    def parts(self) -> tuple[str, str, str]:
        """Path up to the first dot of the file name; what lies between it and the last dot; the ending."""
        path = PurePosixPath(self.name)
        stem, _, rest = path.name.partition(".")
        middle, _, ending = rest.rpartition(".")
        return str(path.with_name(stem)), middle, ending.lower()

    @property
    def full_stem(self) -> str:
        """The path without the ending."""
        return str(PurePosixPath(self.name).with_suffix(""))


def _members(path: Path, skipped: Counter[str]) -> list[tuple[str, tuple[int, int], dict[str, Any]]]:
    """Name, place and annotations of each sample."""
    images, sides = list[_Member](), list[_Member]()
    for member in _files(path, skipped):
        (images if member.content is None else sides).append(member)
    if _has_named_images(images):
        first: dict[str, _Member] = {}
        for image in images:
            if first.setdefault(image.parts[0], image) is not image:
                skipped[f"further images of a sample ({image.parts[1] or image.parts[2]})"] += 1
        images = list(first.values())
    annotations: dict[str, dict[str, Any]] = {}
    for side in sides:
        annotations.setdefault(side.full_stem, {}).update(_side_file(side.parts[2], side.content or b"", skipped))
    samples = [annotations.get(image.full_stem) or annotations.get(image.parts[0], {}) for image in images]
    return [(image.name, (image.start, image.size), found) for image, found in zip(images, samples, strict=True)]


def _has_named_images(images: Sequence[_Member]) -> bool:
    """Whether samples have several named images, such as ``7.input.png`` and ``7.target.png``: the names recur in most samples.

    Dots of other names, such as ``2024.05.01 beach.jpg`` or ``video.0001.png``, separate no names.
    """
    samples: dict[str, list[str]] = {}
    for image in images:
        samples.setdefault(image.parts[0], []).append(image.parts[1])
    several = [names for names in samples.values() if len(names) > 1]
    counts = Counter(name for names in samples.values() for name in set(names))
    words = all(name == "" or name.replace("_", "").replace("-", "").isalpha() for name in counts)
    return len(several) > 1 and words and all(count >= len(samples) / 2 for count in counts.values())


def _files(path: Path, skipped: Counter[str]) -> Iterator[_Member]:
    """Images and side files of a tar archive.

    Raises:
        DataError: it is not a tar archive, or it ends too early.
    """
    end, size, last = 0, path.stat().st_size, ""
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                end, last = member.offset_data + member.size, member.name
                name = PurePosixPath(member.name).name
                if not member.isfile() or name.startswith("."):
                    continue
                ending = PurePosixPath(name).suffix.lower()
                if ending in IMAGE_SUFFIXES:
                    yield _Member(member.name, member.offset_data, member.size)
                elif ending in (".cls", ".json", ".txt"):
                    content = archive.extractfile(member)
                    yield _Member(member.name, member.offset_data, member.size, content.read() if content and end <= size else b"")
                else:
                    skipped[ending or "files without an ending"] += 1
    except tarfile.TarError as problem:
        raise DataError(
            f"{path} cannot be read as a tar archive: {problem}.", "Unpack compressed archives first; check the download."
        ) from None
    blocks = -(-end // 512) * 512
    if end > size or 0 < size - blocks < 1024:
        raise DataError(f"{path} ends too early, at {last!r} ({size:,} bytes).", "Download or copy it again.")
    if size == blocks:
        logging.getLogger(__name__).warning("%s has no end mark and may be incomplete.", path)


def _side_file(extension: str, content: bytes, skipped: Counter[str]) -> dict[str, Any]:
    text = content.decode("utf-8", "replace").strip()
    if extension == "cls":
        return {"label": int(text) if text.lstrip("-").isdigit() else text}
    if extension == "txt":
        return {"text": text}
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    if not isinstance(values, dict):
        skipped["annotations that are no JSON objects"] += 1
        return {}
    flat = {key: value for key, value in values.items() if isinstance(value, str | int | float | bool)}
    skipped["labels that are lists or objects"] += any(key in values and values[key] is not None and key not in flat for key in LABELS)
    if "cls" in flat and "label" not in flat:
        flat["label"] = flat.pop("cls")
    return flat


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row.get(name) for row in rows] for name in dict.fromkeys(key for row in rows for key in row)}


def columns_truth(columns: Mapping[str, Sequence[Any]], classes: Sequence[str]) -> Truth:
    """Ground truth from named columns: ``label`` as numbers or as names; every other column is an attribute.

    Args:
        columns: values (N,) by name of the column; None where missing.
        classes: names of the classes by number; by default from the labels (see ``number_classes``).
    """
    attributes = {name: _column(values) for name, values in columns.items() if name != "label"}
    if "label" not in columns:
        return Truth(attributes=attributes)
    labels = list(columns["label"])
    if classes and any(isinstance(label, str) for label in labels):
        number = {name: index for index, name in enumerate(classes)}
        numbers = [-1 if label is None else number.get(str(label), -1) for label in labels]
        return Truth(labels=np.array(numbers, dtype=np.int64), classes=tuple(classes), attributes=attributes)
    truth = number_classes(labels, dict(enumerate(classes)))
    if truth.labels is None:
        attributes["label"] = _column(labels)
    return replace(truth, attributes=attributes)


def _column(values: Sequence[Any]) -> np.ndarray:
    known = [value for value in values if value is not None]
    if len(known) == len(values) and all(isinstance(value, bool | int | float) for value in known):
        return np.array(values)
    if known and all(isinstance(value, int | float) for value in known):
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return np.array(["" if value is None else str(value) for value in values], dtype=object)


class ParquetListing:
    """Parquet tables, in the given order: a column of images (bytes, or {bytes, path}), optionally ``label`` and other columns.

    Class names are read from the schema's metadata: ``classes`` (separated by commas) or Hugging Face's features; otherwise numbers.

    Raises:
        DataError: not a Parquet file, or it has no image column or no row.
    """

    def __init__(self, paths: Sequence[Path], spec: str) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.paths, self.spec = tuple(paths), spec
        self.fingerprint = _stamp(self.paths)
        try:
            schemas = [pq.read_schema(path) for path in self.paths]
            self.column = _image_column(schemas[0], spec)
            plain = [entry.name for entry in schemas[0] if _is_read(entry) and entry.name != self.column]
            _report_unread_labels(spec, schemas[0], plain)
            tables = [_decoded(pq.read_table(path, columns=plain)) for path in self.paths]
            self._groups = [_group_sizes(path) for path in self.paths]
        except (pa.ArrowInvalid, pa.ArrowTypeError) as problem:
            raise DataError(f"{spec} cannot be read as Parquet: {str(problem).splitlines()[0]}.", "Check the download.") from None
        columns = pa.concat_tables(tables, promote_options="default").to_pydict() if plain else {}
        self._rows = sum(sum(sizes) for sizes in self._groups)
        if not self._rows:
            raise DataError(f"There is no row in {spec}.", "Use a table with at least one image.")
        self._names = _row_names(columns, self._rows)
        self.annotations = Annotations(columns_truth(_renamed(columns, self.column), _class_names(schemas[0])))

    @property
    def names(self) -> Sequence[str]:
        return self._names

    def payloads(self, rows: Rows) -> Iterator[Payload | Unreadable]:
        import pyarrow.parquet as pq

        groups = [(shard, group, size) for shard, sizes in enumerate(self._groups) for group, size in enumerate(sizes)]
        starts = np.concatenate([[0], np.cumsum([size for _, _, size in groups])])
        loaded, values = -1, None
        for row in rows:
            group_index = int(np.searchsorted(starts, row, side="right")) - 1
            if group_index != loaded:
                shard, group, _ = groups[group_index]
                with pq.ParquetFile(self.paths[shard]) as file:
                    values = file.read_row_group(group, columns=[self.column]).column(0)
                loaded = group_index
            assert values is not None
            value = values[int(row - starts[group_index])].as_py()
            content = value.get("bytes") if isinstance(value, dict) else value
            yield content if content else Unreadable("no bytes in this row")


def _group_sizes(path: Path) -> list[int]:
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(path)
    return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]


def _image_column(schema: Any, spec: str) -> str:
    import pyarrow.types as types

    def fits(kind: Any) -> bool:
        return types.is_binary(kind) or types.is_large_binary(kind) or (types.is_struct(kind) and kind.get_field_index("bytes") >= 0)

    fitting = [entry.name for entry in schema if fits(entry.type)]
    for name in ("image", "img", "picture", *fitting):
        if name in fitting:
            return name
    raise DataError(
        f"{spec} has no image column; its columns are {', '.join(schema.names)}.",
        "A column 'image' must contain encoded bytes, or structs with a field 'bytes'.",
    )


def _is_read(entry: Any) -> bool:
    """Whether a column has one value per row; bytes are values in columns of labels only, as others may be images."""
    import pyarrow.types as types

    kind = entry.type.value_type if types.is_dictionary(entry.type) else entry.type
    names = ["string", "large_string", "string_view", "integer", "floating", "boolean", "decimal", "date"]
    names += ["binary", "large_binary"] if entry.name in LABELS else []
    return any(getattr(types, f"is_{name}")(kind) for name in names)


def _decoded(table: Any) -> Any:
    """A table whose dictionaries, such as the categories of pandas, are replaced by their values."""
    import pyarrow.types as types

    for index, entry in enumerate(table.schema):
        if types.is_dictionary(entry.type):
            table = table.set_column(index, entry.name, table[entry.name].cast(entry.type.value_type))
    return table


def _report_unread_labels(spec: str, schema: Any, read: Sequence[str]) -> None:
    """Log a warning if a column of labels has a type, such as a list, that is not read."""
    for entry in schema:
        if entry.name in LABELS and entry.name not in read:
            logging.getLogger("selfsight.data").warning("%s: the column %s of type %s is not read as labels.", spec, entry.name, entry.type)


def _renamed(columns: Mapping[str, list[Any]], image_column: str) -> dict[str, list[Any]]:
    """Use ``labels``, ``fine_label`` or ``class`` as ``label`` if there is none."""
    columns = {name: values for name, values in columns.items() if name != image_column}
    if "label" not in columns:
        for other in LABELS[1:]:
            if other in columns:
                columns["label"] = columns.pop(other)
                break
    return columns


def _row_names(columns: Mapping[str, list[Any]], count: int) -> list[str]:
    for name in ("name", "file_name", "path", "id"):
        values = columns.get(name)
        if values and all(isinstance(value, str | int) for value in values) and len(set(values)) == count:
            return [str(value) for value in values]
    return [f"row {row}" for row in range(count)]


def _class_names(schema: Any) -> Sequence[str]:
    metadata = schema.metadata or {}
    if b"classes" in metadata:
        return metadata[b"classes"].decode("utf-8", "replace").split(",")
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return ()
    for name in ("label", "labels", "fine_label", "class"):
        if isinstance(features.get(name), dict) and isinstance(features[name].get("names"), list):
            return features[name]["names"]
    return ()
