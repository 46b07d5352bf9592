"""Losses of the papers' settings equal the formulas of the published code, written out with the method's own networks."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, normalize, softmax
from torch.testing import assert_close

from selfsight.backbones.image.resnet import resnet_tiny
from selfsight.core.clock import Clock
from selfsight.core.views import Views
from selfsight.methods.table import method_class

from small import trial, world

CLOCK = Clock(0, 5, 10)
COUNT = 6


def views(small: int = 0) -> Views:
    drawn = torch.Generator().manual_seed(0)
    one, other = torch.randn(2, COUNT, 3, 32, 32, generator=drawn)
    extra = tuple(torch.randn(small, COUNT, 3, 16, 16, generator=drawn)) if small else ()
    return Views((one, other), extra, index=torch.arange(COUNT))


def embedded(method: Any, given: tuple[Tensor, ...], *more: Callable[[Tensor], Tensor]) -> list[Tensor]:
    rows = [method.projector(method.backbone(view).pooled) for view in given]
    for link in more:
        rows = [link(row) for row in rows]
    return rows


def simclr(method: Any, given: Views) -> Tensor:
    """objective.py: the cross-entropies of both directions are added."""
    one, other = (normalize(row, dim=1) for row in embedded(method, given.large))
    own, far = torch.arange(COUNT), torch.eye(COUNT) * 1e9
    first = cross_entropy(torch.cat([one @ other.T, one @ one.T - far], 1) / 0.1, own)
    return first + cross_entropy(torch.cat([other @ one.T, other @ other.T - far], 1) / 0.1, own)


def moco(method: Any, given: Views) -> Tensor:
    """moco/builder.py: the key, then the queue; index 0 is right."""
    (query,) = (normalize(row, dim=1) for row in embedded(method, given.large[:1]))
    key, queue = normalize(method.teacher(given.large[1]), dim=1), method.queue.read()
    logits = torch.cat([(query * key).sum(1, keepdim=True), query @ queue.T], 1) / 0.2
    return cross_entropy(logits, torch.zeros(COUNT, dtype=torch.long))


def moco_v3(method: Any, given: Views) -> Tensor:
    """moco/builder.py: 2 T times the cross-entropy, both directions added."""
    one, other = (normalize(row, dim=1) for row in embedded(method, given.large, method.predictor))
    left, right = (normalize(row, dim=1) for row in method.teacher.each(given.large))
    own = torch.arange(COUNT)
    return 2 * 0.2 * (cross_entropy(one @ right.T / 0.2, own) + cross_entropy(other @ left.T / 0.2, own))


def swav(method: Any, given: Views) -> Tensor:
    """main_swav.py: for each of the two assigned views the mean over the other crops, then the mean of both."""
    rows = [normalize(row, dim=1) for row in embedded(method, given.all)]
    scores = [row @ normalize(method.prototypes.weight, dim=1).T for row in rows]
    loss = torch.zeros(())
    for assigned in range(2):
        plan = torch.exp(scores[assigned].detach() / 0.05).T
        plan = plan / plan.sum()
        for _ in range(3):
            plan = plan / plan.sum(1, keepdim=True) / len(plan)
            plan = plan / plan.sum(0, keepdim=True) / COUNT
        code = (plan * COUNT).T
        others = [-(code * log_softmax(score / 0.1, 1)).sum(1).mean() for number, score in enumerate(scores) if number != assigned]
        loss = loss + sum(others, torch.zeros(())) / len(others) / 2
    return loss


def dino(method: Any, given: Views) -> Tensor:
    """main_dino.py: the mean over pairs of a teacher's view and another student's view."""
    logits = method.teacher.each(given.large)
    temperature = method.teacher_temperature(CLOCK)
    guesses = [method.head(method.backbone(view).pooled) for view in given.all]
    targets = [softmax(row / temperature, 1) for row in logits]
    terms = [-(t * log_softmax(g / 0.1, 1)).sum(1).mean() for i, t in enumerate(targets) for j, g in enumerate(guesses) if i != j]
    return torch.stack(terms).mean()


def vicreg(method: Any, given: Views) -> Tensor:
    """main_vicreg.py: 25 invariance + 25 mean hinge of both views + 1 covariance of both views over the dimension."""
    x, y = embedded(method, given.large)
    hinge = sum((1 - (rows.var(0) + 1e-4).sqrt()).clamp(min=0).mean() / 2 for rows in (x, y))
    spread = torch.zeros(())
    for rows in (x, y):
        matrix = torch.cov(rows.T)
        spread = spread + (matrix.square().sum() - matrix.diagonal().square().sum()) / rows.shape[1]
    return 25 * (x - y).square().mean() + 25 * hinge + spread


def barlow(method: Any, given: Views) -> Tensor:
    """main.py: 0.024 = 0.0048 / 0.2 is the ratio of the published rates of biases and weights (LARS ignores the loss scale of weights)."""
    one, other = ((row - row.mean(0)) / (row.var(0, correction=0) + 1e-5).sqrt() for row in embedded(method, given.large))
    matrix = one.T @ other / COUNT
    on = (matrix.diagonal() - 1).square().sum()
    return 0.0048 / 0.2 * (on + 0.0051 * (matrix.square().sum() - matrix.diagonal().square().sum()))


def lejepa(method: Any, given: Views) -> Tensor:
    """The released SIGReg (MINIMAL.md): 17 knots on [0, 3], doubled, weighted by the window, times the number of rows."""
    rows = embedded(method, given.all)
    centre = torch.stack(rows[:2]).mean(0)
    near = torch.stack([(row - centre).square().mean() for row in rows]).mean()
    knots = torch.linspace(0, 3, 17)
    window = torch.exp(-knots.square() / 2)
    weights = torch.full((17,), 2 * 3 / 16)
    weights[[0, -1]] = 3 / 16
    along = normalize(torch.randn(4096, rows[0].shape[1], generator=torch.Generator().manual_seed(1)), dim=1)
    terms = []
    for row in rows:
        turned = (row @ along.T)[:, :, None] * knots
        error = (turned.cos().mean(0) - window).square() + turned.sin().mean(0).square()
        terms.append((error @ (weights * window)).mean() * COUNT)
    return 0.95 * near + 0.05 * torch.stack(terms).mean()


TWINS = {
    "simclr": (simclr, {"hidden": 16, "dim": 8}, 0),
    "moco": (moco, {"dim": 8, "keys": 12, "groups": 1}, 0),
    "moco_v3": (moco_v3, {"hidden": 16, "dim": 8}, 0),
    "swav": (swav, {"hidden": 16, "dim": 8, "clusters": 5, "queue": 0}, 3),
    "dino": (dino, {"prototypes": 8, "hidden": 16, "bottleneck": 8, "balance": "none"}, 3),
    "vicreg": (vicreg, {"hidden": 16, "dim": 8}, 0),
    "barlow": (barlow, {"hidden": 16, "dim": 8}, 0),
    "lejepa": (lejepa, {"hidden": 16, "dim": 8, "directions": 4096}, 3),
}
TOLERANCE = {"lejepa": 0.02}
"""Other random directions are drawn."""


@pytest.mark.parametrize("name", TWINS)
def test_the_loss_is_the_published_one(name: str) -> None:
    published, options, small = TWINS[name]
    torch.manual_seed(0)
    method = method_class(name)(resnet_tiny(size=32), **options)
    given = views(small)
    expected = published(method, given)
    found = method(given, CLOCK).loss
    assert_close(found, expected, rtol=TOLERANCE.get(name, 1e-3), atol=1e-4)


def test_deepcluster_v2_is_the_mean_over_heads_of_the_mean_over_crops() -> None:
    """main_deepclusterv2.py."""
    made = trial("deepcluster_v2", world(8), options={"temperature": 0.1})
    method = made.method
    rows = [normalize(row, dim=1) for row in embedded(method, made.views.all)]
    known = [labels[made.views.index] for labels in method.assigned]
    terms = [
        cross_entropy(torch.cat([row @ normalize(kinds.weight, dim=1).T for row in rows]) / 0.1, labels.repeat(len(rows)))
        for kinds, labels in zip(method.prototypes, known, strict=True)
    ]
    assert_close(method(made.views, made.clock).loss, torch.stack(terms).mean(), rtol=1e-3, atol=1e-4)


def test_mae_is_the_mean_over_hidden_patches() -> None:
    """models_mae.py: squared error of standardised patches (unbiased variance + 1e-6), over hidden patches only."""
    made = trial("mae", world(8))
    method, image, mask = made.method, made.views.large[0], made.views.hints["mask"][:, 0]
    guess = method.decoder(method.backbone.tokens(image, keep=~mask).patches, mask)
    side = method.backbone.stride
    target = image.unfold(2, side, side).unfold(3, side, side).permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)
    target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
    error = (guess.unflatten(-1, (-1, 3)).flatten(2) - target).square().mean(-1)
    assert_close(method(made.views, made.clock).loss, (error * mask).sum() / mask.sum(), rtol=1e-3, atol=1e-4)
