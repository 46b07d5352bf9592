"""HTML for notebooks: no scripts, escaped text, bounded images."""

import base64
import io
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from markupsafe import Markup
from PIL import Image

from selfsight.bank.store import write_bank
from selfsight.discover.images.clusters import Cluster, ClusteringResult
from selfsight.discover.objects.localise import Region
from selfsight.discover.objects.object_regions import ObjectRegions
from selfsight.discover.segments.maps import SegmentationResult
from selfsight.explain.attribution.explanation import Explanation
from selfsight.explain.checks.diagnosis import Diagnosis
from selfsight.explain.gallery import Gallery
from selfsight.explain.inversion.inverter import Inverter
from selfsight.measure.results import Score, Scores
from selfsight.render.panels import BYTES, LONGEST, facts, inlined, interval, panel, swatch, table
from selfsight.render.sheet import Tile
from selfsight.workflows.evaluate.comparison import Comparison
from selfsight.workflows.evaluate.probes import EvaluationResult

EVIL = "<img src=x onerror=alert(1)>\"'&amp;{0}%s$\\frac{$"
ATTRIBUTES = {
    "img": {"alt", "style", "src"},
    "span": {"title", "style"},
    "div": {"style"},
    "table": {"style"},
    "th": {"style"},
    "td": {"style"},
}


class Page(HTMLParser):
    """A strict parser: elements are closed in order, and only allowed elements and attributes occur."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words, self.cells, self.pictures, self.alts, self._open = "", [[]], [], [], []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in {*ATTRIBUTES, "b", "tr"}
        known = dict(attrs)
        assert set(known) <= ATTRIBUTES.get(tag, set())
        assert "url" not in (known.get("style") or "")
        if tag == "img":
            kind, _, data = (known["src"] or "").partition(",")
            assert kind == "data:image/png;base64"
            self.pictures.append(Image.open(io.BytesIO(base64.b64decode(data, validate=True))))
            self.alts.append(known["alt"])
        else:
            self._open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("th", "td"):
            self.cells[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data
        if "td" in self._open or "th" in self._open:
            self.cells[-1][-1] += data

    def column(self, head: str) -> list[str]:
        _, names, *rows = self.cells
        return [row[names.index(head)] for row in rows]


def png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_texts_are_escaped() -> None:
    page = Page(
        panel(EVIL, facts({EVIL: EVIL, "nothing": None, "empty": "", "zero": 0}), table((EVIL,), [(EVIL,)]), inlined(png(2, 2), EVIL))
    )
    assert page.words == f"{EVIL}{EVIL} {EVIL} · zero 0{EVIL}{EVIL}"
    assert page.alts == [EVIL]


def test_long_texts_are_shortened_in_the_middle() -> None:
    (_, (head,), (cell,)) = Page(table(("n",), [("a" * 300 + "z.png",)])).cells
    assert head == "n"
    assert len(cell) < 130
    assert cell.endswith("z.png")
    assert "…" in cell


def test_numbers_are_written_plainly() -> None:
    row = (0, 12345, 0.0, 0.12345, 53.06, 1e-5, 1e6, float("nan"), float("inf"), None, "text")
    (_, _, cells) = Page(table([""] * len(row), [row])).cells
    assert cells == ["0", "12,345", "0.000", "0.123", "53.060", "1e-05", "1e+06", "–", "–", "–", "text"]
    found = table(("a", "b"), [("text", 1)])
    assert found.count("text-align:left") == found.count("text-align:right") == 2


def test_many_rows_are_counted() -> None:
    page = Page(table(("n",), [(number,) for number in range(1500)], most=3))
    assert page.column("n") == ["0", "1", "2"]
    assert page.words.endswith("… and 1,497 more")
    assert "more" not in Page(table(("n",), [(1,), (2,), (3,)], most=3)).words


def test_intervals_and_colours() -> None:
    assert Page(interval(0.5, 0.4, 0.7)).words == "0.500 ± 0.150"
    assert 'title="0.400 to 0.700"' in interval(0.5, 0.4, 0.7)
    assert Page(interval(0.5, 0.5, 0.5)).words == "0.500"
    assert interval(float("nan"), 0.0, 1.0) == "–"
    assert "rgb(1,2,3)" in swatch([1, 2, 3])
    assert isinstance(swatch((1, 2, 3)), Markup)


@pytest.mark.parametrize("size", [(30, 20), (3000, 40), (700, 700), (300, 2000)])
def test_thumbnails_are_bounded_and_keep_their_aspect_ratio(size: tuple[int, int]) -> None:
    given = png(*size)
    words = inlined(given, "")
    (shown,) = Page(words).pictures
    assert len(words) < 1_000_000
    assert max(shown.size) <= LONGEST
    assert shown.width / shown.height == pytest.approx(size[0] / size[1], rel=0.05)
    if max(size) <= LONGEST and len(given) <= BYTES:
        assert base64.b64encode(given).decode() in words


def test_scores_are_shown_with_their_baselines() -> None:
    found = EvaluationResult(
        {"knn": {"top1": Score(0.9, 0.8, 1.0)}, EVIL: {EVIL: Score(0.1, 0.1, 0.1)}},
        {"untrained": {"knn": {"top1": Score(0.5, 0.4, 0.6)}}, "pixels": {}},
        protocol={"knn": EVIL},
    )
    page = Page(found._repr_html_())
    assert page.cells[1] == ["probe", "score", "this network", "untrained", "pixels"]
    assert page.cells[2:] == [["knn", "top1", "0.900 ± 0.100", "0.500 ± 0.100", "–"], [EVIL, EVIL, "0.100", "–", "–"]]
    assert f"knn: {EVIL}" in page.words
    assert Page(Score(0.25, 0.2, 0.4)._repr_html_()).words == "0.250 ± 0.100"
    assert Page(Scores({EVIL: Score(0.25, 0.25, 0.25)}, EVIL)._repr_html_()).cells[2] == [EVIL, "0.250"]


def test_networks_are_compared_in_one_sheet() -> None:
    def one(value: float) -> EvaluationResult:
        baselines = {"untrained": {"knn": {"top1": Score(value / 2, 0.0, 1.0)}}, "pixels": {"knn": {"top1": Score(0.3, 0.3, 0.3)}}}
        return EvaluationResult({"knn": {"top1": Score(value, value, value)}}, baselines)

    page = Page(Comparison({EVIL: one(0.8), "b": one(0.6)})._repr_html_())
    assert page.cells[1] == ["score", EVIL, "b", f"baseline: untrained, of {EVIL}", "baseline: untrained, of b", "baseline: pixels"]
    assert page.cells[2] == ["k-NN top-1", "0.800", "0.600", "0.400 ± 0.500", "0.300 ± 0.500", "0.300"]
    assert len(page.pictures) == 1


def test_explanations_show_their_sheet_and_numbers() -> None:
    images = torch.randint(0, 255, (2, 3, 8, 8), dtype=torch.uint8)
    maps = {EVIL: torch.rand(2, 1, 8, 8)}
    page = Page(
        Explanation(images, (EVIL, "b"), maps, EVIL, torch.tensor([2.0, 3.0]), {EVIL: torch.tensor([0.5, torch.nan])})._repr_html_()
    )
    assert page.cells[1:] == [["image", "score", EVIL], [EVIL, "2.000", "0.500"], ["b", "3.000", "–"]]
    assert page.words.startswith(f"Attribution of {EVIL}")
    assert page.pictures[0].width > 100
    gallery = Page(Gallery({EVIL: [Tile(np.zeros((4, 4, 3), np.uint8), EVIL, {}, EVIL)]}, {"made by": EVIL})._repr_html_())
    assert f"made by {EVIL}" in gallery.words
    assert EVIL in gallery.alts[0]
    assert f"layer {EVIL}" in Page(Inverter(4, cells=0, size=8, layer=EVIL)._repr_html_()).words


def test_a_diagnosis_shows_suspects_first() -> None:
    known = {"masks": torch.rand(3, 8, 8), "areas": torch.tensor([0.1, 0.2, 0.4]), "share": torch.tensor([0.95, torch.nan, 0.9])}
    about = {
        "required_fraction": 0.9,
        "object_fraction": torch.tensor([0.9, 0.1, 0.4]),
        "background_fraction": torch.tensor([0.1, 0.5, 0.9]),
    }
    images = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)
    found = Diagnosis(images, ("a", "b", EVIL), **known, **about, objects=torch.ones(3, 8, 8, dtype=torch.bool), facts={"target": EVIL})
    page = Page(found._repr_html_())
    assert page.column("image") == [EVIL, "b", "a"]
    assert page.column("share") == ["0.900", "–", "0.950"]
    assert page.column("without it") == ["0.900", "0.500", "0.100"]
    assert "evidence outside the object 2 of 3" in page.words
    unknown = Diagnosis(
        images, ("a", "b", EVIL), **known, required_fraction=0.9, object_fraction=None, background_fraction=None, objects=None
    )
    assert "outside" not in Page(unknown._repr_html_()).words


def test_discoveries_show_themselves() -> None:
    grey, mask = np.full((8, 8, 3), 99, np.uint8), np.zeros((4, 4), bool)
    mask[1:3, 2:] = True
    page = Page(
        ObjectRegions((EVIL, "b"), ((8, 8),) * 2, ((8, 8),) * 2, ([Region(mask, 0.5)], []), (grey, grey), {"data": EVIL})._repr_html_()
    )
    assert page.words.startswith("Object regionsregions 1 · images 2 · data")
    assert page.cells[2:] == [[EVIL, "1", "4", "2", "8", "6", "0.500"]]
    nothing = Page(ObjectRegions((EVIL,), ((8, 8),), ((8, 8),), ([],), (grey,))._repr_html_())
    assert nothing.words.startswith("Object regionsregions 0 · images 1")

    maps = (np.array([[0, 1], [1, 1]]), np.array([[0, 0], [0, 0]]))
    page = Page(SegmentationResult((EVIL, "b"), ((8, 8),) * 2, ((8, 8),) * 2, maps, 2, (grey, grey), {"data": EVIL}, "parts")._repr_html_())
    assert page.words.startswith(f"2 partsdata {EVIL}")
    assert page.cells[2:] == [["background", "0", "0.625", "2"], ["", "1", "0.375", "1"], ["", "2", "0.000", "0"]]

    cluster = Cluster(2, 0.25, (1, 0), (), (), EVIL, 0.5)
    near = np.array([0.5, 0.75])
    found = ClusteringResult(("a", EVIL), np.zeros(2, np.int64), near, near, ((0, 1),), (cluster,), None, {1: grey}, {"data": EVIL})
    page = Page(found._repr_html_())
    assert page.cells[2:] == [["0", EVIL, "0.500", "2", "0.250", EVIL]]
    assert "groups of near-duplicates 1" in page.words
    assert len(page.pictures) == 1


def test_a_bank_shows_its_layers(tmp_path) -> None:
    bank = write_bank(
        tmp_path / "bank", {EVIL.replace("/", ""): np.zeros((3, 5)), "output": np.zeros((3, 7))}, ["a", "b", "c"], {"data": EVIL}
    )
    page = Page(bank._repr_html_())
    assert page.cells[2:] == [[EVIL, "5"], ["output", "7"]]
    assert page.words.startswith(f"Features of 3 imagesdata {EVIL}")
