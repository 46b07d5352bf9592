"""The training and the test data of an evaluation, and what to know about them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from selfsight.bank.extract import Encoder, extract_features
from selfsight.core.clock import Clock, key
from selfsight.core.finite import require_finite
from selfsight.core.method import Frame
from selfsight.core.names import shortened
from selfsight.core.progress import ProgressCallback, no_progress
from selfsight.core.representation import Representation
from selfsight.core.views import Images
from selfsight.data.classes import join_classes, unseen_classes
from selfsight.data.contents import overlapping_rows
from selfsight.data.evaluation_view import check_modality
from selfsight.data.loader import load_images
from selfsight.data.source import Source, Truth, readable
from selfsight.data.views.alignment import ALIGNMENT_VIEWS
from selfsight.measure.analysis.inputs import AnalysisInput
from selfsight.measure.probes.geometry import ROWS
from selfsight.measure.probes.layers import LabelPair
from selfsight.measure.probes.table import LAYER_PROBES, PROBES
from selfsight.measure.results import Features
from selfsight.workflows.evaluate.analyses.table import ANALYSES

__all__ = ["EvaluationData", "data_notes", "evaluation_data", "unlabelled_part"]


@dataclass(frozen=True)
class EvaluationData:
    """A training and a test source with their annotations.

    Attributes:
        train: source on which probes are fitted.
        test: source on which they are scored.
        train_labels: classes of its samples; None unless both sources have labels.
        test_labels: the same of the test source.
        classes: names of the classes.
        truths: annotations of both.
    """

    train: Source
    test: Source
    train_labels: np.ndarray | None
    test_labels: np.ndarray | None
    classes: tuple[str, ...]
    truths: tuple[Truth, Truth]

    @property
    def annotated(self) -> bool:
        """Whether both have labels or common attributes."""
        return self.train_labels is not None or bool(set(self.truths[0].attributes) & set(self.truths[1].attributes))

    def analysis_input(self, others: Mapping[str, Representation], layers: Sequence[str], progress: Callable[[str], None]) -> AnalysisInput:
        """The input of analyses.

        Args:
            others: other networks by name.
            layers: names of layers; empty: all.
            progress: called with a line per step.
        """
        labels = LabelPair(self.train_labels, self.test_labels, self.classes)
        return AnalysisInput(self.train, self.test, labels, others, tuple(layers), progress)

    def labelled(self, train: np.ndarray, test: np.ndarray, twins: tuple[np.ndarray, np.ndarray]) -> Features:
        """Features with the annotations of their samples.

        Args:
            train: features (N, D) of the training source.
            test: features (M, D) of the test source.
            twins: features of two random crops of some test images.

        Raises:
            DataError: some features are NaN or infinite.
        """
        require_finite(train, "training", self.train.names)
        require_finite(test, "test", self.test.names)
        return Features(train, test, self.train_labels, self.test_labels, self.classes, twins, self.truths)

    def features(self, encoder: Encoder, size: int, device: torch.device | None = None) -> dict[str, Features]:
        """Features of both parts by the encoder's names, with features of augmented pairs.

        Args:
            encoder: computes features of images.
            size: side of the images in pixels.
            device: device of the encoder.
        """
        train_features = extract_features(self.train, encoder, size=size, device=device)
        test_features = extract_features(self.test, encoder, size=size, device=device)
        pairs = self.twins(encoder, size, device)
        return {name: self.labelled(train_features[name], test_features[name], pairs[name]) for name in train_features}

    def twins(self, encoder: Encoder, size: int, device: torch.device | None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Features of two random crops of some test images, the same crops for every encoder.

        Args:
            encoder: computes features of images.
            size: side of the crops in pixels.
            device: device of the encoder.
        """
        rows = np.random.default_rng(0).permutation(len(self.test))[: ROWS // 2]
        features: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
        for number, part in enumerate(np.array_split(np.sort(rows), max(len(rows) // 256, 1))):
            images: Images = load_images(self.test, part)
            recipe = ALIGNMENT_VIEWS[images.modality]
            drawn = recipe.draw(len(part), Clock(seed=key(0, 0x7121), step=number), Frame(size, 1))
            left, right = recipe.make(images, drawn).large
            with torch.inference_mode():
                views = (left, right) if images.modality == "sound" else (left.clamp(0, 1), right.clamp(0, 1))
                pair = [encoder(view.to(device) if device else view) for view in views]
            for name in pair[0]:
                features.setdefault(name, []).append((pair[0][name].float().cpu().numpy(), pair[1][name].float().cpu().numpy()))
        return {name: (np.concatenate([a for a, _ in rows]), np.concatenate([b for _, b in rows])) for name, rows in features.items()}


def _uses_classes(names: Sequence[str] | None) -> bool:
    """Whether one of the requested probes or analyses needs annotations."""
    names = names.split(",") if isinstance(names, str) else names
    entries = {**PROBES, **LAYER_PROBES, **ANALYSES}
    return not names or any(name not in entries or set(entries[name].needs) - {"others"} for name in names)


def evaluation_data(phi: Representation, train: Source, test: Source, probes: Sequence[str] | None) -> EvaluationData:
    """Both sources, checked to have the network's modality, with labels if both have them and classes joined by name.

    Args:
        phi: the representation.
        train: source on which probes are fitted.
        test: source on which they are scored.
        probes: the requested probes and analyses; None: all.

    Raises:
        UsageError: the data have another modality than the network.
        DataError: a probe needs classes, and the two sources share none.
    """
    for source in (train, test):
        check_modality(source, phi)
    train, test = readable(train), readable(test)
    if _uses_classes(probes):
        train, test = join_classes(train, test)
    truths = train.truth(np.arange(len(train))), test.truth(np.arange(len(test)))
    labelled = all(truth.labels is not None and (truth.labels >= 0).any() for truth in truths)
    train_labels, test_labels = (truth.labels if labelled else None for truth in truths)
    return EvaluationData(train, test, train_labels, test_labels, truths[0].classes, truths)


def unlabelled_part(train: Source, test: Source) -> str:
    """Which part of the data has no labels, as the subject of a sentence.

    Args:
        train: source on which probes are fitted.
        test: source on which they are scored.
    """
    parts = {"training": train, "test": test}
    without = [f"the {name} data {part.spec}" for name, part in parts.items() if part.truth(np.arange(len(part))).labels is None]
    return " and ".join(without) or "the data"


def data_notes(parts: EvaluationData, cache: Path | None, progress: ProgressCallback = no_progress) -> tuple[str, ...]:
    """Sentences on test classes without training samples, images without a label, and test images that are also training images.

    Args:
        parts: the data.
        cache: folder of saved digests of the images; None: computed anew.
        progress: called with each of them.
    """
    notes: list[str] = []
    if unseen := unseen_classes(*parts.truths):
        kind = "class" if len(unseen) == 1 else "classes"
        notes.append(
            f"{len(unseen):,} {kind} of the test data without a training sample ({shortened(unseen)}); their samples count as errors"
        )
    for name, source, labels in (("training", parts.train, parts.train_labels), ("test", parts.test, parts.test_labels)):
        unknown = 0 if labels is None else int((labels < 0).sum())
        if unknown:
            notes.append(f"{unknown:,} of {len(source):,} {name} images have no label, and are left out where labels are needed")
    overlap = overlapping_rows(parts.train, parts.test, cache)
    if len(overlap):
        names = shortened([parts.test.names[int(row)] for row in overlap], 3)
        notes.append(
            f"train-test overlap: {len(overlap):,} of {len(parts.test):,} test images are also training images ({names}); scores are too high"
        )
    for note in notes:
        progress(note)
    return tuple(notes)
