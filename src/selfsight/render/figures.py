"""Pictures for the report, as data that a page can carry: SVG drawings and PNG sheets."""

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

__all__ = ["PALETTE", "curve", "data_uri", "floor_bars", "map_of", "thumbnail"]

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d1f", "#6a51a3", "#b3446c", "#4d4d4d")
"""Colours that people with colour-blindness can tell apart (after Okabe & Ito 2008); the page's first is its accent."""


def thumbnail(pixels: UInt8[np.ndarray, "channel height width"], side: int = 72) -> str:
    """A picture as a data URI, at least ``side`` pixels wide; small ones are enlarged without smoothing."""
    picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    factor = side / max(picture.size)
    if factor > 1:
        whole = max(round(factor), 1)
        picture = picture.resize((picture.width * whole, picture.height * whole), Image.Resampling.NEAREST)
    elif factor < 1:
        picture = picture.resize((max(round(picture.width * factor), 1), max(round(picture.height * factor), 1)), Image.Resampling.LANCZOS)
    return data_uri(picture)


def data_uri(picture: Image.Image) -> str:
    """A picture as a data URI: JPEG, or PNG when it is tiny."""
    buffer = io.BytesIO()
    if max(picture.size) <= 64:
        picture.save(buffer, "PNG", optimize=True)
        kind = "png"
    else:
        picture.convert("RGB").save(buffer, "JPEG", quality=88)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers inside a range."""
    span = max(high - low, 1e-12)
    raw = span / count
    power = 10 ** np.floor(np.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw)
    return [float(value) + 0.0 for value in np.arange(np.ceil(low / step) * step, high + step * 1e-6, step)]


def curve(
    steps: Sequence[float],
    values: Sequence[float],
    title: str,
    *,
    mark: tuple[float, str] | None = None,
    width: int = 380,
    height: int = 210,
) -> str:
    """A line over steps as SVG; ``mark`` draws a dashed line with a word, such as the loss of a network that knows nothing."""
    left, right, top, bottom = 52, 12, 30, 30
    x, y = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    shown = [*y, mark[0]] if mark else list(y)
    low, high = float(np.min(shown)), float(np.max(shown))
    pad = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    low, high = low - pad, high + pad
    last = max(float(x.max()), 1.0)

    def place(step: float, value: float) -> tuple[float, float]:
        return left + step / last * (width - left - right), top + (high - value) / (high - low) * (height - top - bottom)

    parts = [f'<text class="title" x="{left}" y="16">{escape(title)}</text>']
    for tick in _ticks(low, high):
        _, at = place(0, tick)
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 6}" y="{at + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in _ticks(0, last):
        at, _ = place(tick, low)
        parts.append(f'<text class="tick" x="{at:.1f}" y="{height - 10}" text-anchor="middle">{tick:,.0f}</text>')
    if mark:
        _, at = place(0, mark[0])
        parts.append(f'<line class="mark" x1="{left}" x2="{width - right}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick" x="{width - right}" y="{at - 5:.1f}" text-anchor="end">{escape(mark[1])}</text>')
    points = " ".join("{:.1f},{:.1f}".format(*place(step, value)) for step, value in zip(x, y, strict=True))
    parts.append(f'<polyline class="line" points="{points}"/>')
    alternative = f"{title}: from {y[0]:.4g} at step {x[0]:.0f} to {y[-1]:.4g} at step {x[-1]:.0f}"
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(alternative)}">{"".join(parts)}</svg>'


def floor_bars(rows: Sequence[tuple[str, Sequence[tuple[str, float, float, float]]]], width: int = 780) -> str:
    """Bars of scores between 0 and 1, each group beside its floors, with intervals: (label, ((name, value, low, high), …))."""
    gap, bar, left, right = 14, 15, 130, 90
    height = sum(len(bars) * bar + gap for _, bars in rows) + 10
    scale = width - left - right
    parts, y = [], 6.0
    for label, bars in rows:
        middle = y + len(bars) * bar / 2 + 4
        parts.append(f'<text class="label" x="{left - 10}" y="{middle:.1f}" text-anchor="end">{escape(label)}</text>')
        for number, (name, value, low, high) in enumerate(bars):
            centre = y + bar / 2
            parts.append(
                f'<rect class="bar b{number}" x="{left}" y="{y + 1:.1f}" width="{max(value, 0) * scale:.1f}" height="{bar - 3}"/>'
                f'<line class="range" x1="{left + max(low, 0) * scale:.1f}" x2="{left + high * scale:.1f}" y1="{centre:.1f}" y2="{centre:.1f}"/>'
                f'<text class="tick" x="{left + high * scale + 6:.1f}" y="{centre + 4:.1f}">{value * 100:.1f} {escape(name)}</text>'
            )
            y += bar
        y += gap
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Scores beside their floors; the table has the numbers">{"".join(parts)}</svg>'


def map_of(
    places: Float[np.ndarray, "sample 2"],
    groups: np.ndarray,
    pictures: Sequence[str],
    shown: Sequence[int],
    width: int = 780,
    height: int = 560,
) -> str:
    """A scatter of samples, coloured by cluster, with a few pictures standing where they belong."""
    low, high = np.quantile(places, 0.005, axis=0), np.quantile(places, 0.995, axis=0)
    unit = np.clip((places - low) / np.maximum(high - low, 1e-9), 0, 1)
    x, y = 24 + unit[:, 0] * (width - 48), 24 + (1 - unit[:, 1]) * (height - 48)
    dots = "".join(
        f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.1" fill="{PALETTE[int(group) % len(PALETTE)]}"/>'
        for a, b, group in zip(x, y, groups, strict=True)
    )
    side = 30
    images = "".join(
        f'<image href="{pictures[number]}" x="{x[row] - side / 2:.1f}" y="{y[row] - side / 2:.1f}" width="{side}" height="{side}"/>'
        f'<rect class="frame" x="{x[row] - side / 2:.1f}" y="{y[row] - side / 2:.1f}" width="{side}" height="{side}" '
        f'stroke="{PALETTE[int(groups[row]) % len(PALETTE)]}"/>'
        for number, row in enumerate(shown)
    )
    words = "The two main directions of the embedding; every dot is a picture, coloured by its cluster"
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{words}"><g opacity="0.55">{dots}</g>{images}</svg>'
