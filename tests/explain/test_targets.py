"""Targets: units, directions, classes, clusters, similarity."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize
from torch.testing import assert_close

from selfsight.backbones.loading import untrained
from selfsight.core.errors import UsageError
from selfsight.core.readout import Readout
from selfsight.explain.targets import activations, argmax_target, cluster, code, direction, log_odds, probe_class, similarity_to, unit

from nets import chain, logit, phi_of, pictures


def test_a_unit_is_read_at_its_layer() -> None:
    phi, images = phi_of(chain()), pictures()
    given = phi.normalise(images)
    grid = phi.grid(images, "module.4")
    assert_close(unit("module.4", 3).score(phi, given), grid[:, 3].mean((1, 2)))
    assert_close(unit("module.4", 3, "max").score(phi, given), grid[:, 3].amax((1, 2)))
    assert_close(unit("module.4", 3, (2, 5)).score(phi, given), grid[:, 3, 2, 5])
    with pytest.raises(UsageError, match="from 0 to 7"):
        unit("module.4", 8).score(phi, given)


def test_layers_after_the_target_do_not_run() -> None:
    phi = phi_of(chain())
    ran: list[int] = []
    phi.backbone.module[6].register_forward_hook(lambda *_: ran.append(1))
    found = activations(phi, phi.normalise(pictures()), "module.4")
    assert torch.equal(found, phi.grid(pictures(), "module.4"))
    assert len(ran) == 1  # by grid, which runs the whole network


def test_tokens_are_read_as_positions() -> None:
    phi = untrained("vit_nano?blocks=2", size=32)
    images = torch.rand(2, 3, 32, 32)
    layer = phi.layers[0]
    found = unit(layer, 5).score(phi, phi.normalise(images))
    assert_close(found, phi.grid(images, layer)[:, 5].mean((1, 2)))


def test_log_odds_have_gradients_where_a_class_is_certain() -> None:
    logits = torch.tensor([[200.0, 0.0, -3.0], [0.0, 1.0, 2.0]], requires_grad=True)
    found = log_odds(logits)
    assert_close(found[0, 0], 200 - torch.tensor([0.0, -3.0]).logsumexp(0))
    assert_close(found[1].sigmoid(), logits[1].softmax(0))
    (slope,) = torch.autograd.grad(found.sum(), logits)
    assert slope.isfinite().all()
    assert_close(torch.autograd.grad(log_odds(logits)[0, 0], logits)[0][0, 0], torch.tensor(1.0))
    assert torch.equal(log_odds(logits[:, :1]), logits[:, :1])


def test_a_class_is_the_probes_log_odds() -> None:
    phi, images = phi_of(chain()[:-1]), pictures()
    generator = np.random.default_rng(0)
    arrays = {
        "weight": generator.normal(size=(3, 8)),
        "bias": generator.normal(size=3),
        "mean": generator.normal(size=8),
        "scale": generator.uniform(1, 2, size=8),
    }
    probe = Readout("linear", "output", arrays, ("cat", "dog", "owl"))
    rows = phi.pooled(images).detach().double().numpy()
    expected = ((rows - arrays["mean"]) / arrays["scale"]) @ arrays["weight"].T + arrays["bias"]
    given = phi.normalise(images)
    odds = torch.stack(
        [torch.from_numpy(expected[:, [one]])[:, 0] - torch.from_numpy(np.delete(expected, one, 1)).logsumexp(1) for one in range(3)], 1
    )
    assert_close(probe_class(probe, "dog").score(phi, given), odds[:, 1].float(), rtol=1e-4, atol=1e-5)
    best = argmax_target(probe_class(probe, 0), phi, images)
    assert_close(best.score(phi, given), odds.amax(1).float(), rtol=1e-4, atol=1e-5)
    with pytest.raises(UsageError, match="no class"):
        probe_class(probe, "cow")
    with pytest.raises(UsageError, match="linear probe"):
        probe_class(Readout("centroids", "output", {"centroids": np.ones((2, 8))}), 0)


def test_a_cluster_is_largest_for_its_own_centroid() -> None:
    phi, images = phi_of(chain()[:-1]), pictures(6)
    rows = phi.pooled(images).detach()
    for unit_length in (True, False):
        shown = normalize(rows) if unit_length else rows
        readout = Readout("centroids", "output", {"centroids": shown[:3].numpy()}, facts={"unit_length": unit_length})
        numbers = cluster(readout, 0).numbers(phi, phi.normalise(images))
        assert numbers.argmax(1).tolist() == torch.cdist(shown, shown[:3]).argmin(1).tolist()
    with pytest.raises(UsageError, match="no centroids"):
        cluster(Readout("linear", "output", {"weight": np.ones((2, 8))}), 0)


@pytest.mark.parametrize("layer", [None, "module.4"])
def test_similarity_to_the_own_features_is_one(layer: str | None) -> None:
    phi, images = phi_of(chain()[:-1]), pictures()
    given = phi.normalise(images)
    assert_close(similarity_to(phi, images[1], layer).score(phi, given)[1], torch.tensor(1.0))
    assert similarity_to(phi, images[1], layer).score(phi, given)[0] < 1
    own = code(phi, images, layer)
    assert_close(own.score(phi, given), torch.ones(3))
    assert_close(own.score(phi, given[[2, 2]], torch.tensor([2, 2])), torch.ones(2))


def test_a_target_per_image_rejects_more_images() -> None:
    phi = phi_of(chain())
    target = logit().at(torch.tensor([0, 1]))
    assert target.score(phi, phi.normalise(pictures(2))).shape == (2,)
    with pytest.raises(UsageError, match="2 images"):
        target.score(phi, phi.normalise(pictures(3)))


def test_a_direction_of_a_layer_reads_the_mean_over_positions() -> None:
    phi, images = phi_of(chain()), pictures()
    vector = torch.randn(8)
    assert_close(direction(vector, "module.4").score(phi, phi.normalise(images)), phi.pooled(images, "module.4") @ vector)
