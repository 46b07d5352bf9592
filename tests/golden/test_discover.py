"""Golden values of discoveries: boxes, segments, parts, clusters, duplicates, selections, points, masks of frames, eigenvectors."""

from typing import Any

import numpy as np
import pytest
import torch

from selfsight.backbones.loading import untrained
from selfsight.core.errors import UsageError
from selfsight.core.representation import Representation
from selfsight.data.opening import open_source
from selfsight.data.source import Source
from selfsight.discover.dense.affinity import affinity_graph, chunked_graph, colour_affinity, cosines, nystrom_graph
from selfsight.discover.dense.correspond import best_buddies, log_binned, points_of, transfer
from selfsight.discover.dense.features import FeatureBatch, FeatureSpec, iter_feature_batches
from selfsight.discover.dense.propagate import propagate
from selfsight.discover.dense.refine import refined
from selfsight.discover.dense.spectral import spectrum
from selfsight.discover.images.clusters import find_clusters
from selfsight.discover.images.duplicates import find_duplicates
from selfsight.discover.images.grouping import choose_count
from selfsight.discover.objects.object_regions import find_objects
from selfsight.discover.objects.table import LOCALISERS
from selfsight.discover.parts.parts import find_parts
from selfsight.discover.parts.table import PART_FINDERS
from selfsight.discover.segments.segment import segment_images
from selfsight.discover.segments.table import SEGMENTERS
from selfsight.regions.proposals import selective_search
from selfsight.workflows.discover.run import discover
from selfsight.workflows.discover.table import method_registry

from golden import check
from golden.telling import flat

pytestmark = pytest.mark.slow

NETWORKS = {"cnn": "resnet_tiny?width=8", "vit": "vit_nano?blocks=2"}
LOOKS = {"cnn": FeatureSpec(48, "stages.1"), "vit": FeatureSpec(48, stride=2)}
"""Layers with enough places to be told apart: 12 x 12 or 24 x 24."""


@pytest.fixture(scope="module")
def source() -> Source:
    return open_source("world:shapes?count=24&size=48", size=48)


@pytest.fixture(params=sorted(NETWORKS))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def phi(kind: str) -> Representation:
    found = untrained(NETWORKS[kind], size=48)
    found.backbone.eval()
    return found


def _few(source: Source, count: int = 6) -> np.ndarray:
    return np.arange(min(count, len(source)))


@pytest.mark.parametrize("method", sorted(LOCALISERS.names()))
def test_boxes(source: Source, phi: Representation, kind: str, method: str) -> None:
    if kind == "cnn" and LOCALISERS.resolve(method).name in ("attention", "background"):
        with pytest.raises(UsageError, match="attention"):
            find_objects(phi, source, method, feature_spec=LOOKS[kind], rows=_few(source))
        return
    found: dict[str, Any] = {}
    looked = FeatureSpec(48) if method in ("attention", "background", "dino_seg", "found") else LOOKS[kind]
    for refine in (False, True) if method in LOCALISERS else (False,):
        one = find_objects(
            phi, source, method, feature_spec=looked, min_confidence=0.0, refine=refine, rows=_few(source, 2 if refine else 6)
        )
        word = "refined" if refine else "plain"
        found[f"{word}/regions of each"] = [len(some) for some in one.regions]
        found[f"{word}/boxes"] = np.concatenate([one.boxes(row) for row in range(len(one.names))]).round(6).tolist()
        found[f"{word}/masks"] = np.stack([one.mask(row) for row in range(len(one.names))])
        found[f"{word}/covered"] = [int((one.mask(row) > 0).sum()) for row in range(len(one.names))]
    found["names"] = list(one.names)
    check(f"discover.boxes.{kind}.{method}", found)


@pytest.mark.parametrize("method", sorted(SEGMENTERS))
def test_segments(source: Source, phi: Representation, kind: str, method: str) -> None:
    found: dict[str, Any] = {}
    more = {"spectral": {"segments": 5}}.get(method, {})
    look = FeatureSpec(48, LOOKS[kind].layer, vectors=6)
    count, ways = (2, ["plain"]) if method == "iic" else (5, ["plain", "learn", "refine"] if method == "spectral" else ["plain", "learn"])
    for word in ways:
        how = {} if word == "plain" else {word: True}
        one = segment_images(phi, source, method, classes=5, feature_spec=look, rows=_few(source, count), **how, **more)
        found |= {f"{word}/kinds": one.classes, f"{word}/sizes": np.bincount(np.concatenate([some.ravel() for some in one.maps])).tolist()}
        found |= {f"{word}/map {row}": one.maps[row] for row in range(2)}
    check(f"discover.segments.{kind}.{method}", found)


@pytest.mark.parametrize("within", ["shared", "border"])
@pytest.mark.parametrize("method", sorted(PART_FINDERS))
def test_parts(source: Source, phi: Representation, kind: str, method: str, within: str) -> None:
    more: dict[str, Any] = {"steps": 20} if method == "contrast" else {}
    look = FeatureSpec(48, LOOKS[kind].layer)
    one = find_parts(
        phi, source, method, parts=3, feature_spec=look, foreground=None if within == "shared" else within, rows=_few(source, 8), **more
    )
    found: dict[str, Any] = {"word": one.word, "kinds": one.classes}
    found["sizes"] = np.bincount(np.concatenate([some.ravel() for some in one.maps]), minlength=4).tolist()
    check(f"discover.parts.{kind}.{method}.{within}", found | {f"map {row}": one.maps[row] for row in range(3)})


@pytest.mark.parametrize("method", method_registry("clusters").names())
def test_clusters(source: Source, phi: Representation, kind: str, method: str) -> None:
    one = find_clusters(phi, source, method, count=4)
    truth = source.truth(np.arange(len(source)))
    assert truth.labels is not None
    found: dict[str, Any] = {"labels": one.labels.tolist(), "nearness": one.nearness.tolist(), "lonely": one.neighbour_distance.tolist()}
    found |= {"outliers": one.outliers(5), "duplicates": int(np.isfinite(one.duplicates()).sum())}
    check(
        f"discover.clusters.{kind}.{method}",
        found | flat("clusters", one.with_class_names(truth.labels, truth.classes).to_json()["clusters"]),
    )


def test_number_of_clusters(source: Source, phi: Representation, kind: str) -> None:
    one = find_clusters(phi, source)
    assert one.choice is not None
    found = {"counts": list(one.choice.counts), "silhouettes": list(one.choice.silhouettes), "spread": list(one.choice.spread)}
    rows = np.random.default_rng(0).normal(size=(60, 5)) + 5 * np.eye(5)[np.arange(60) % 3]
    planted = choose_count(rows, (2, 3, 4, 6), "kmeans")
    check(
        f"discover.choice.{kind}", found | {"best": one.choice.best, "planted": planted.best, "planted scores": list(planted.silhouettes)}
    )


@pytest.mark.parametrize("method", method_registry("duplicates").names())
def test_duplicates(source: Source, phi: Representation, kind: str, method: str) -> None:
    found: dict[str, Any] = {}
    for duplicate_threshold in (0.99, 0.9, 0.7):
        one = find_duplicates(phi, source, method, duplicate_threshold=duplicate_threshold)
        found |= {f"{duplicate_threshold}/groups": [list(rows) for rows in one.groups], f"{duplicate_threshold}/kept": one.unique()}
    check(f"discover.duplicates.{kind}.{method}", found | flat("counts", one.counts()))


@pytest.mark.parametrize("method", method_registry("selection").names())
def test_selection(source: Source, phi: Representation, kind: str, method: str) -> None:
    one, scores = discover(phi, source, "selection", method, classes=4, count=9)
    assert scores == {}
    found = {"rows": [row for row, _ in one.chosen], "why": [why for _, why in one.chosen], "clusters": one.clusters.tolist()}
    check(f"discover.selection.{kind}.{method}", found | flat("counts", one.counts()))


@pytest.mark.parametrize(
    ("what", "method"),
    [("boxes", "fiedler"), ("clusters", "spherical"), ("clusters", "kmeans"), ("segments", "patch"), ("parts", "colour")],
)
def test_scores_with_baselines(source: Source, what: str, method: str) -> None:
    phi, some = untrained(NETWORKS["cnn"], size=48), open_source("world:shapes?count=12&size=48", size=48)
    more: dict[str, Any] = {"boxes": {"feature_spec": FeatureSpec(48, "stages.1")}, "clusters": {"count": 4}}.get(
        what, {"feature_spec": FeatureSpec(48, "stages.1")}
    )
    more |= {"segments": {"classes": 4}, "parts": {"parts": 3, "foreground": "border"}}.get(what, {})
    said: list[str] = []
    _, scores = discover(phi, source if what == "clusters" else some, what, method, progress=said.append, **more)
    plain = {name: {who: score.to_json() for who, score in by.items()} for name, by in scores.items()}
    check(f"discover.scores.{what}.{method}", flat("scores", plain) | {"said": said})


def test_points(source: Source, phi: Representation, kind: str) -> None:
    (looked,) = iter_feature_batches(phi, source, LOOKS[kind], rows=np.arange(3))
    left, right, rough = looked.features
    shape = looked.shape
    pairs, few = best_buddies(left.flatten(1), right.flatten(1)), best_buddies(left.flatten(1), rough.flatten(1), most=5)
    found: dict[str, Any] = {"shape": list(shape), "pairs": pairs[:20].tolist(), "how many": len(pairs), "spread out": few.tolist()}
    points = points_of(pairs[:6, 0], shape, (48, 48))
    found |= {"points": points.tolist(), "carried": transfer(points, left, right, ((48, 48), (48, 48))).tolist()}
    found["log bins"] = log_binned(looked.features, 1)
    check(f"discover.points.{kind}", found)


def test_masks_of_frames(source: Source, phi: Representation, kind: str) -> None:
    picture = torch.from_numpy(source.read(np.array([1])).images[0]).float()
    frames = [picture.roll(2 * step, 2) for step in range(4)]
    first = np.zeros((48, 48), dtype=np.int64)
    first[8:28, 10:30], first[30:44, 30:44] = 1, 2
    propagate_labels = list(propagate(phi, frames, first, feature_spec=LOOKS[kind], context=2, radius=6))
    sizes = [np.bincount(one.ravel(), minlength=3).tolist() for one in propagate_labels]
    check(f"discover.frames.{kind}", {"sizes": sizes} | {f"frame {row}": one for row, one in enumerate(propagate_labels)})


def test_eigenvectors(source: Source, phi: Representation, kind: str) -> None:
    """Signs as in the code: the positive side is the minority."""
    found: dict[str, Any] = {}
    for word, look in {
        "features": FeatureSpec(48, LOOKS[kind].layer, vectors=4),
        "colour": FeatureSpec(48, LOOKS[kind].layer, vectors=4, colour=0.5),
    }.items():
        (looked,) = iter_feature_batches(phi, source, look, rows=np.arange(3))
        one = looked.spectrum
        found |= {f"{word}/values": one.values.double(), f"{word}/degrees": one.degrees, f"{word}/clusters": one.clusters()}
        found |= {f"{word}/vector {place}": _signed(one.vectors[:, place]) for place in range(1, 4)}
    features = looked.features.double()
    graphs = {
        "all": affinity_graph(cosines(features).clamp(min=0)),
        "chunks": chunked_graph(features, 40),
        "landmarks": nystrom_graph(features, 30),
    }
    for name, graph in graphs.items():
        for solver in ("dense", "krylov") if graph.dense is not None else ("krylov",):
            one = spectrum(graph, 3, solver=solver)
            found |= {f"{name} {solver}/values": one.values, f"{name} {solver}/vectors": _signed(one.vectors[:, 1])}
    found["likeness of colours"] = colour_affinity(looked.pixels, 6, 6)
    check(f"discover.eigenvectors.{kind}", found)


def _signed(vectors: torch.Tensor) -> torch.Tensor:
    """With a positive largest entry."""
    peak = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    return vectors * peak.sign()


def test_what_colours_alone_tell(source: Source) -> None:
    found: dict[str, Any] = {}
    for row in range(3):
        picture = source.read(np.array([row])).images[0].transpose(1, 2, 0) / 255.0
        boxes = selective_search(picture)
        found |= {
            f"boxes {row}": boxes[:12].tolist(),
            f"how many {row}": len(boxes),
            f"another seed {row}": selective_search(picture, 1)[:4].tolist(),
        }
    masks = np.zeros((3, 8, 8), dtype=bool)
    masks[:, 2:6, 2:6] = True
    pixels = torch.from_numpy(source.read(np.arange(3)).images).float() / 255
    finer = refined(masks, pixels)
    found |= {"refined": finer, "refined sizes": finer.sum((1, 2)).tolist()}
    check("discover.colours", found)


def test_pictures_as_they_are_looked_at(phi: Representation, kind: str) -> None:
    source = open_source("world:shapes?count=3&size=48", size=48)
    (looked,) = iter_feature_batches(phi, source, LOOKS[kind])
    assert isinstance(looked, FeatureBatch)
    found: dict[str, Any] = {"pixels": looked.pixels, "features": looked.features, "cosines": looked.cosines, "names": list(looked.names)}
    if kind == "vit":
        found["attention"] = looked.attention
        for facet in ("key", "query", "value", "token"):
            (other,) = iter_feature_batches(phi, source, FeatureSpec(48, facet=facet, block=0))
            found[f"facet {facet}"] = other.features
    check(f"discover.looked.{kind}", found)
