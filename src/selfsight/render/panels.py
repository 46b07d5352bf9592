"""Results as HTML for notebooks: no scripts, no external resources, escaped text, inherited colours. Torch-free."""

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup, escape

__all__ = ["facts", "inlined", "interval", "panel", "swatch", "table"]

LONGEST, BYTES = 1600, 740_000
"""Maximum longer side of an image in pixels, and size of its PNG, which grows by a third as a data URI."""
ROWS, LETTERS, FACT = 60, 120, 500
"""Maximum number of rows of a table; length of a text in it; length of a fact."""
RULE = "border:0;border-bottom:1px solid rgba(128,128,128,.35);padding:.2em .7em;background:transparent;color:inherit"
Cell = str | float | None


def panel(title: str, *parts: Markup) -> str:
    """A result with a title.

    Args:
        title: name of the result.
        parts: tables, images and lines of facts, from top to bottom.
    """
    return str(Markup('<div style="color:inherit"><b>{}</b>{}</div>').format(_short(title), Markup("").join(parts)))


def facts(known: Mapping[str, object]) -> Markup:
    """One line of names and values; empty values are omitted."""
    items = [
        Markup("{} {}").format(_short(name), _short(str(value), FACT))
        for name, value in known.items()
        if value is not None and str(value) != ""
    ]
    return Markup('<div style="opacity:.75;margin:.2em 0">{}</div>').format(Markup(" · ").join(items))


def table(head: Sequence[str], rows: Iterable[Sequence[Cell]], most: int = ROWS) -> Markup:
    """A table: text columns left-aligned, number columns right-aligned, a dash for unknown values.

    Args:
        head: header of each column.
        rows: cells of each row; ``Markup`` is not escaped and is right-aligned.
        most: number of rows that are shown, followed by the number of further rows.
    """
    all_rows = list(rows)
    shown = all_rows[:most]
    alignments = ["left" if any(type(row[column]) is str for row in shown) else "right" for column in range(len(head))]
    lines = [_line("th", zip(head, alignments, strict=True))]
    lines += [_line("td", zip(map(_words, row), alignments, strict=True)) for row in shown]
    more = Markup('<div style="opacity:.75">… and {:,} more</div>').format(len(all_rows) - most) if len(all_rows) > most else ""
    style = "border-collapse:collapse;margin:.4em 0;color:inherit;font-variant-numeric:tabular-nums"
    return Markup('<div style="overflow-x:auto"><table style="{}">{}</table></div>{}').format(style, Markup("").join(lines), more)


def interval(value: float, low: float, high: float) -> Markup:
    """A number with half of its interval, and the bounds as a tooltip.

    Args:
        value: the value.
        low: lower bound.
        high: upper bound.
    """
    if not math.isfinite(value):
        return Markup("–")
    half = Markup(' <span style="opacity:.75">± {}</span>').format(_words((high - low) / 2)) if high > low else ""
    return Markup('<span title="{} to {}">{}{}</span>').format(_words(low), _words(high), _words(value), half)


def swatch(colour: Sequence[int]) -> Markup:
    """A square of a colour (red, green, blue: 0 to 255)."""
    red, green, blue = (int(part) for part in colour)
    style = f"display:inline-block;width:1em;height:1em;border-radius:2px;vertical-align:-.1em;background:rgb({red},{green},{blue})"
    return Markup('<span style="{}"></span>').format(style)


def inlined(png: bytes, words: str) -> Markup:
    """A PNG embedded in the page, reduced if it is large.

    Args:
        png: the image.
        words: alternative text.
    """
    style = "display:block;max-width:100%;height:auto;margin:.4em 0;background:#fff;border-radius:4px"
    data = base64.b64encode(_bounded(png)).decode()
    return Markup('<img alt="{}" style="{}" src="data:image/png;base64,{}">').format(_short(words), style, data)


def _bounded(png: bytes) -> bytes:
    """The image, if too large with fewer colours, then with fewer pixels."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as opened:
        if max(opened.size) <= LONGEST and len(png) <= BYTES:
            return png
        original = opened.convert("RGB")
    side = min(LONGEST, max(original.size))
    while True:
        small = original.copy()
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        for candidate in (small, small.quantize(256)):
            buffer = io.BytesIO()
            candidate.save(buffer, "PNG", optimize=True)
            if buffer.tell() <= BYTES:
                return buffer.getvalue()
        side = int(side * 0.85)


def _line(kind: str, cells: Iterable[tuple[str, str]]) -> Markup:
    wrap = "normal" if kind == "th" else "nowrap"
    cell = f'<{kind} style="{RULE};white-space:{wrap};text-align:{{1}}">{{0}}</{kind}>'
    return Markup("<tr>{}</tr>").format(Markup("").join(Markup(cell).format(*one) for one in cells))


def _words(value: Cell) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, str):
        return value if isinstance(value, Markup) else _short(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.3g}"


def _short(text: str, most: int = LETTERS) -> Markup:
    """An escaped text, shortened in the middle if it is long."""
    half = most // 2
    return escape(str(text) if len(text) <= most else f"{text[:half]}…{text[-half:]}")
