"""Sheets of thumbnails by cluster or group, tiles with captions, and the plot of the choice of the number of clusters."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from selfsight.discover.images.grouping import Choice
from selfsight.render.palette import BLUE, VERMILION

__all__ = ["captioned", "cluster_sheet", "draw_choice"]

TILE, GAP, WORDS = 96, 6, 150
INK, PALE = (30, 30, 30), (120, 120, 120)
Thumbnails = Sequence[UInt8[np.ndarray, "_ _ 3"]]


def cluster_sheet(
    rows: Sequence[tuple[Sequence[str], Thumbnails, Thumbnails]],
    counts: tuple[int, int],
    heads: tuple[str, str] = ("near the centre", "far from it"),
) -> bytes:
    """A row per cluster as PNG: caption, then two groups of thumbnails.

    Args:
        rows: caption lines, thumbnails of the first group, thumbnails of the second group.
        counts: columns of each group.
        heads: header of each group.
    """
    width = WORDS + (sum(counts) + 1) * (TILE + GAP) - TILE // 2
    head = 34
    sheet = Image.new("RGB", (width, head + max(len(rows), 1) * (TILE + GAP) + GAP), "white")
    draw, large, small = ImageDraw.Draw(sheet), ImageFont.load_default(15), ImageFont.load_default(12)
    second_left = WORDS + counts[0] * (TILE + GAP) + TILE // 2
    for left, header in zip((WORDS, second_left), heads, strict=True):
        draw.text((left, 10), header, PALE, small)
    for index, (caption, typical, far) in enumerate(rows):
        top = head + index * (TILE + GAP)
        for line, text in enumerate(caption):
            draw.text(
                (GAP + 4, top + 4 + (22 if line else 0) + max(line - 1, 0) * 17), text, PALE if line else INK, small if line else large
            )
        for left, thumbnails in ((WORDS, typical), (second_left, far)):
            for number, thumbnail in enumerate(thumbnails):
                tile = Image.fromarray(thumbnail).resize((TILE, TILE), Image.Resampling.LANCZOS)
                sheet.paste(tile, (left + number * (TILE + GAP), top))
    out = BytesIO()
    sheet.save(out, "PNG")
    return out.getvalue()


def captioned(thumbnail: UInt8[np.ndarray, "_ _ 3"], words: Sequence[str]) -> Image.Image:
    """A thumbnail with lines of text below it, the first one dark.

    Args:
        thumbnail: the thumbnail ``(H, W, 3)``.
        words: lines of text.
    """
    tile = Image.new("RGB", (TILE, TILE + 4 + 15 * len(words)), "white")
    tile.paste(Image.fromarray(thumbnail).resize((TILE, TILE), Image.Resampling.LANCZOS))
    draw, font = ImageDraw.Draw(tile), ImageFont.load_default(12)
    for line, text in enumerate(words):
        draw.text((TILE // 2, TILE + 3 + 15 * line), text, PALE if line else INK, font, anchor="ma")
    return tile


def draw_choice(choice: Choice) -> bytes:
    """Plot of silhouette and spread over the number of clusters, with the chosen one marked, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.4), dpi=120, layout="constrained")
    left = figure.subplots()
    left.plot(choice.counts, choice.silhouettes, "o-", color=BLUE, markersize=4, label="silhouette (left)")
    left.axvline(choice.best, color=BLUE, linestyle=":", linewidth=1)
    left.annotate(f"{choice.best} clusters", (choice.best, max(choice.silhouettes)), xytext=(8, -4), textcoords="offset points", color=BLUE)
    left.set_xlabel("clusters")
    left.set_ylabel("silhouette")
    right = left.twinx()
    right.plot(choice.counts, choice.spread, "s--", color=VERMILION, markersize=3, label="spread (right)")
    right.set_ylabel("spread: mean of 1 - cos to the centre")
    lines = [line for axes in (left, right) for line in axes.get_lines() if not str(line.get_label()).startswith("_")]
    left.legend(lines, [str(line.get_label()) for line in lines], frameon=False, loc="upper right", fontsize=9)
    for axes in (left, right):
        axes.spines["top"].set_visible(False)
    out = BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()
