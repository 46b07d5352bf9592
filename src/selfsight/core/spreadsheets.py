"""Tables for spreadsheets: text that a spreadsheet would evaluate as a formula is marked as text, and can be read back."""

import csv
import re
from collections.abc import Iterable
from io import TextIOBase
from typing import Any

__all__ = ["as_text", "original_text", "write_csv"]

_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
"""Beginnings of cells that spreadsheets evaluate, also in full width, with any number of apostrophes before them."""


def as_text(value: Any) -> Any:
    """A cell that no spreadsheet evaluates: text like a formula gets an apostrophe in front; numbers and other text are unchanged.

    Args:
        value: content of the cell.
    """
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def original_text(cell: str) -> str:
    """The text from which ``as_text`` made a cell.

    Args:
        cell: a text cell.
    """
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def write_csv(file: TextIOBase, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a table as CSV whose cells no spreadsheet evaluates.

    Args:
        file: a text file opened with ``newline=""``.
        header: names of the columns.
        rows: cells by row.
    """
    table = csv.writer(file)
    table.writerow(map(as_text, header))
    table.writerows(map(as_text, row) for row in rows)
