"""k-NN accuracy during training, on a labelled sample."""

from collections.abc import Callable

import numpy as np
import torch

from selfsight.data.evaluation_view import central_view
from selfsight.data.loader import load_images
from selfsight.data.source import Source
from selfsight.engine.observe import StepEvent
from selfsight.measure.probes.knn import vote

__all__ = ["OnlineKnn"]


class OnlineKnn:
    """k-NN accuracy of the network in training: one half of a labelled sample classifies the other half.

    Args:
        sample: a labelled source.
        size: side of the training images in pixels.
        every: steps between evaluations.
        report: called with the step and the accuracy.
        rows: maximum number of images of the sample.
    """

    def __init__(self, sample: Source, *, size: int, every: int, report: Callable[[int, float], None], rows: int = 2000) -> None:
        chosen = np.random.default_rng(0).permutation(len(sample))[:rows]
        truth = sample.truth(chosen)
        if truth.labels is None:
            raise ValueError(f"{sample.spec} has no labels.")
        self.labels, self.every, self.report, self.size = truth.labels, every, report, size
        self.images = load_images(sample, chosen)

    @torch.no_grad()
    def on_step(self, event: StepEvent) -> None:
        """Evaluate if due; the network is in evaluation mode meanwhile."""
        step = event.clock.step
        if (step + 1) % self.every and step != event.clock.steps - 1:
            return
        method = event.method
        was_training = method.training
        method.eval()
        device = next(method.parameters()).device
        normalise = getattr(method.recipe, "normalise", None)
        rows = []
        for start in range(0, len(self.images), 256):
            part = self.images.map(lambda tensor, start=start: tensor[start : start + 256].to(device))
            rows.append(method.backbone(central_view(part, self.size, normalise)).pooled.float().cpu())
        method.train(was_training)
        features, half = torch.cat(rows).numpy(), len(self.labels) // 2
        predicted = vote(features[:half], self.labels[:half], features[half:])
        self.report(step, float((predicted == self.labels[half:]).mean()))
