"""Figures of the report as embedded data: SVG drawings and JPEG or PNG images."""

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from selfsight.render.palette import PALETTE

__all__ = ["baseline_bars", "curve", "data_uri", "map_of", "thumbnail"]


def thumbnail(pixels: UInt8[np.ndarray, "channel height width"], side: int = 72) -> str:
    """An image as a data URI, about ``side`` pixels wide; small images are enlarged without smoothing.

    Args:
        pixels: the image ``(C, H, W)``, 0 to 255.
        side: longest side in pixels.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    factor = side / max(image.size)
    if factor > 1:
        scale = max(round(factor), 1)
        image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    elif factor < 1:
        image = image.resize((max(round(image.width * factor), 1), max(round(image.height * factor), 1)), Image.Resampling.LANCZOS)
    return data_uri(image)


def data_uri(image: Image.Image) -> str:
    """An image as a data URI: PNG up to 64 pixels, otherwise JPEG."""
    buffer = io.BytesIO()
    if max(image.size) <= 64:
        image.save(buffer, "PNG", optimize=True)
        kind = "png"
    else:
        image.convert("RGB").save(buffer, "JPEG", quality=88)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers within a range."""
    extent = max(high - low, 1e-12)
    raw = extent / count
    power = 10 ** np.floor(np.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw)
    return [float(value) + 0.0 for value in np.arange(np.ceil(low / step) * step, high + step * 1e-6, step)]


def curve(
    steps: Sequence[float], values: Sequence[float], title: str, *, mark: tuple[float, str] | None = None, width: int = 380, height: int = 210
) -> str:  # fmt: skip
    """A line plot as SVG.

    Args:
        steps: x values.
        values: y values.
        title: title of the plot.
        mark: height and label of a dashed reference line, such as the loss at chance level.
        width: width of the drawing.
        height: height of the drawing.
    """
    left, right, top, bottom = 52, 12, 30, 30
    x, y = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    drawn = [*y, mark[0]] if mark else list(y)
    low, high = float(np.min(drawn)), float(np.max(drawn))
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
    description = f"{title}: from {y[0]:.4g} at step {x[0]:.0f} to {y[-1]:.4g} at step {x[-1]:.0f}"
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(description)}">{"".join(parts)}</svg>'


def baseline_bars(rows: Sequence[tuple[str, Sequence[tuple[str, float, float, float]]]], width: int = 780) -> str:
    """Bars of scores from 0 to 1 with intervals, each group with its baselines.

    Args:
        rows: groups of (label, ((name, value, low, high), …)).
        width: width of the drawing.
    """
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
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Scores and baselines; the table has the numbers">{"".join(parts)}</svg>'


def map_of(
    places: Float[np.ndarray, "sample 2"],
    groups: np.ndarray,
    thumbnails: Sequence[str],
    shown: Sequence[int],
    width: int = 780,
    height: int = 560,
) -> str:
    """A scatter plot of samples, coloured by cluster, with some images at their positions.

    Args:
        places: ``(N, 2)`` positions.
        groups: ``(N,)`` cluster of each sample.
        thumbnails: images as data URIs.
        shown: the sample of each image.
        width: width of the drawing.
        height: height of the drawing.
    """
    low, high = np.quantile(places, 0.005, axis=0), np.quantile(places, 0.995, axis=0)
    unit = np.clip((places - low) / np.maximum(high - low, 1e-9), 0, 1)
    x, y = 24 + unit[:, 0] * (width - 48), 24 + (1 - unit[:, 1]) * (height - 48)
    dots = "".join(
        f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.1" fill="{PALETTE[int(group) % len(PALETTE)]}"/>'
        for a, b, group in zip(x, y, groups, strict=True)
    )
    side = 30
    images = "".join(
        f'<image href="{thumbnails[number]}" x="{x[row] - side / 2:.1f}" y="{y[row] - side / 2:.1f}" width="{side}" height="{side}"/>'
        f'<rect class="frame" x="{x[row] - side / 2:.1f}" y="{y[row] - side / 2:.1f}" width="{side}" height="{side}" '
        f'stroke="{PALETTE[int(groups[row]) % len(PALETTE)]}"/>'
        for number, row in enumerate(shown)
    )
    description = "The first two principal components of the features; each dot is an image, coloured by its cluster"
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{description}"><g opacity="0.55">{dots}</g>{images}</svg>'
