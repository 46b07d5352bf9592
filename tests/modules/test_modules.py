"""Modules with state that is updated after a step."""

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize
from torch.testing import assert_close

from selfsight.backbones.loading import untrained
from selfsight.core.clock import Clock
from selfsight.core.errors import UsageError
from selfsight.core.part import Chain, parts_of
from selfsight.core.schedule import Constant, Cosine
from selfsight.core.transformer import DropPath
from selfsight.modules.assignments import Assignments
from selfsight.modules.autoencoder import ConvAutoencoder, blurred
from selfsight.modules.codebook import Codebook
from selfsight.modules.context import DownwardContext
from selfsight.modules.critics import Critic
from selfsight.modules.decoders import ConvDecoder, sine_positions
from selfsight.modules.frozen import Frozen
from selfsight.modules.heads import UnitLinear, mlp, prototype_head
from selfsight.modules.memory import Memory
from selfsight.modules.momentum import Momentum
from selfsight.modules.neighbours import Neighbours
from selfsight.modules.norm import GlobalBatchNorm1d, GlobalBatchNorm2d, split_batch_norms, unite_batch_norms
from selfsight.modules.prototypes import Prototypes
from selfsight.modules.queue import Queue
from selfsight.modules.running import RunningMean
from selfsight.modules.table import uniform_hash

NOW = Clock(step=1, steps=4)


def numbered(*values: int) -> torch.Tensor:
    return torch.tensor([[float(value), 1.0] for value in values])


def test_queue_is_first_in_first_out_and_wraps():
    queue = Queue(4, 2)
    assert queue.read().shape == (0, 2)
    queue.note(numbered(1, 2, 3))
    assert queue.read().shape == (0, 2)  # not before the step has ended
    queue.after_step(NOW)
    assert queue.read()[:, 0].tolist() == [1, 2, 3]
    assert not queue.full
    queue.note(numbered(4))
    queue.note(numbered(5))
    queue.after_step(NOW)
    assert queue.read()[:, 0].tolist() == [5, 2, 3, 4]
    assert queue.full
    queue.after_step(NOW)
    assert queue.read()[:, 0].tolist() == [5, 2, 3, 4]
    queue.note(numbered(6, 7, 8, 9, 10, 11))  # more than it holds: the last stay
    queue.after_step(NOW)
    assert sorted(queue.read()[:, 0].tolist()) == [8, 9, 10, 11]
    queue.note(numbered(12))
    queue.after_step(NOW)
    assert sorted(queue.read()[:, 0].tolist()) == [9, 10, 11, 12]


def test_queue_discards_noted_rows_and_stores_copies():
    queue = Queue(3, 2)
    queue.note(numbered(5))
    queue.after_step(NOW)
    before = queue.read()
    queue.note(numbered(1))
    queue.discard()
    queue.after_step(NOW)
    assert_close(queue.read(), before)
    queue.read().zero_()
    assert_close(queue.read(), before)
    again = Queue(3, 2)
    again.load_state_dict(queue.state_dict())
    for one in (queue, again):
        one.note(numbered(7))
        one.after_step(NOW)
    assert_close(again.read(), queue.read())


def test_momentum_is_a_moving_average():
    leader = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    head = nn.Linear(2, 1)
    slow = Momentum(Chain(leader, head), Cosine(0.8, 1.0))
    x = torch.randn(6, 2)
    assert_close(slow(x), head(leader(x)).detach())
    assert not any(parameter.requires_grad for parameter in slow.parameters())
    old, new = head.weight.detach().clone(), head.weight.detach() + 1
    with torch.no_grad():
        head.weight.copy_(new)
    rate = Cosine(0.8, 1.0)(NOW)
    slow.after_step(NOW)
    assert_close(slow.followers[1].weight.detach(), rate * old + (1 - rate) * new)
    slow.after_step(Clock(step=4, steps=4))  # momentum one: it stands still
    assert_close(slow.followers[1].weight.detach(), rate * old + (1 - rate) * new)
    assert not slow(x).requires_grad
    assert slow.followers[0][1].num_batches_tracked == 2
    assert leader[1].num_batches_tracked == 1


def test_momentum_contains_every_tensor_once():
    owner = nn.Module()
    owner.leader = nn.Linear(2, 2)
    owner.slow = Momentum(Chain(owner.leader), Constant(0.9))
    assert sorted(owner.state_dict()) == ["leader.bias", "leader.weight", "slow.followers.0.bias", "slow.followers.0.weight"]
    assert [part for part in parts_of(owner) if isinstance(part, Momentum)] == [owner.slow]


def test_eval_mode_teacher_only_disables_randomness():
    leader = nn.Sequential(nn.Dropout(0.5), DropPath(0.5), nn.BatchNorm1d(2))
    calm, lively = (Momentum(Chain(leader), Constant(0.9), eval_mode=calm).train() for calm in (True, False))
    assert [layer.training for layer in calm.followers[0]] == [False, False, True]
    assert [layer.training for layer in lively.followers[0]] == [True, True, True]
    assert not any(layer.training for layer in calm.eval().followers[0])


def test_running_mean():
    mean = RunningMean(2, keep=0.9)
    mean.note(torch.tensor([[1.0, 3.0], [3.0, 5.0]]))
    assert mean.value.tolist() == [0, 0]
    mean.after_step(NOW)
    assert_close(mean.value, torch.tensor([0.2, 0.4]))
    mean.note(torch.tensor([[1.0, 1.0]]))
    mean.note(torch.tensor([[3.0, 3.0]]))  # two pieces of a batch
    mean.after_step(NOW)
    assert_close(mean.value, 0.9 * torch.tensor([0.2, 0.4]) + 0.1 * torch.tensor([2.0, 2.0]))
    before = mean.value.clone()
    mean.note(torch.tensor([[9.0, 9.0]]))
    mean.discard()
    mean.after_step(NOW)
    assert_close(mean.value, before)


def test_prototypes_are_normalised_after_a_step():
    prototypes = Prototypes(5, 3)
    assert_close(prototypes.weight.norm(dim=1), torch.ones(5))
    rows = normalize(torch.randn(2, 3))
    assert_close(prototypes(rows)[1, 4], (rows[1] * prototypes.weight[4]).sum())
    with torch.no_grad():
        prototypes.weight.mul_(3).add_(0.1)
    direction = normalize(prototypes.weight.detach())
    prototypes.after_step(NOW)
    assert_close(prototypes.weight.detach(), direction)
    assert prototypes.weight.requires_grad


def test_assignments_are_saved_and_grow():
    table = Assignments()
    with pytest.raises(UsageError, match="table of samples is empty"):
        table[torch.tensor([0])]
    table.set(torch.tensor([4, 0, 2]), torch.tensor([7, 8, 9]))
    assert table[torch.tensor([0, 2, 4, 1])].tolist() == [8, 9, 7, -1]
    other = Assignments()
    other.load_state_dict(table.state_dict())
    assert torch.equal(other.labels, table.labels)
    table.set(torch.tensor([1]), torch.tensor([3]))
    assert other.labels.tolist() == [8, -1, 9, -1, 7]
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict({})


def test_memory_is_updated_after_the_step():
    bank = Memory(2, keep=0.5)
    with pytest.raises(UsageError, match="table of samples is empty"):
        bank[torch.tensor([0])]
    bank.set(torch.tensor([3, 0]), torch.tensor([[0.0, 2.0], [5.0, 0.0]]))
    assert bank.rows.tolist() == [[1, 0], [0, 0], [0, 0], [0, 1]]
    bank.note(torch.tensor([0]), torch.tensor([[0.0, 9.0]]))
    assert bank[torch.tensor([0])].tolist() == [[1, 0]]
    bank.after_step(NOW)
    assert_close(bank[torch.tensor([0, 3])], torch.tensor([[0.5**0.5, 0.5**0.5], [0.0, 1.0]]))
    bank.note(torch.tensor([3]), torch.tensor([[1.0, 0.0]]))
    bank.discard()
    bank.after_step(NOW)
    assert_close(bank[torch.tensor([3])], torch.tensor([[0.0, 1.0]]))
    other = Memory(2)
    other.load_state_dict(bank.state_dict())
    assert torch.equal(other.rows, bank.rows)
    last = Memory(2, keep=0.0)
    last.set(torch.tensor([0]), torch.tensor([[1.0, 0.0]]))
    last.note(torch.tensor([0]), torch.tensor([[0.0, 3.0]]))
    last.after_step(NOW)
    assert last.rows.tolist() == [[0, 1]]


def test_running_mean_can_start_at_the_first_mean():
    mean = RunningMean(1, keep=0.9, first=True)
    for value in (4.0, 6.0):
        mean.note(torch.tensor([[value]]))
        mean.after_step(NOW)
    assert_close(mean.value, torch.tensor([4.2]))


def norms(groups: int, *, interleaved: bool) -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(nn.BatchNorm2d(3))
    with torch.no_grad():
        network[0].weight.uniform_(0.5, 2)
        network[0].bias.uniform_(-1, 1)
    split_batch_norms(network, groups, interleaved=interleaved)
    return network.double()


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("groups", [2, 4])
def test_split_batch_norm_is_separate_batch_norms(groups, interleaved):
    network = norms(groups, interleaved=interleaved)
    x = torch.randn(8, 3, 2, 5, dtype=torch.float64, requires_grad=True)
    found = network(x)
    parts = [torch.arange(8)[group::groups] if interleaved else torch.arange(8).chunk(groups)[group] for group in range(groups)]
    expected = torch.empty_like(x)
    means, variances = [], []
    for rows in parts:
        alone = nn.BatchNorm2d(3, momentum=1.0).double()
        alone.load_state_dict(network[0].state_dict())
        expected[rows] = alone(x[rows])
        means.append(alone.running_mean)
        variances.append(alone.running_var)
    assert_close(found, expected)
    weights = torch.randn(found.shape, dtype=torch.float64)
    (ours,) = torch.autograd.grad((found * weights).sum(), x, retain_graph=True)
    (theirs,) = torch.autograd.grad((expected * weights).sum(), x)
    assert_close(ours, theirs)
    assert_close(network[0].running_mean, 0.1 * torch.stack(means).mean(0))
    assert_close(network[0].running_var, 0.9 + 0.1 * torch.stack(variances).mean(0))
    assert network[0].num_batches_tracked == 1
    alone = nn.BatchNorm2d(3).double().eval()
    alone.load_state_dict(network[0].state_dict())
    assert_close(network.eval()(x), alone(x))  # remembered statistics know no groups


@pytest.mark.parametrize("dim", [1, 2])
def test_global_batch_norm_of_one_process_equals_torch(dim):
    kind, made = (nn.BatchNorm1d, GlobalBatchNorm1d) if dim == 1 else (nn.BatchNorm2d, GlobalBatchNorm2d)
    plain, network = kind(3), nn.Sequential(kind(3))
    unite_batch_norms(network)
    layer = network[0]
    assert type(layer) is made
    x = torch.randn(*((6, 3) if dim == 1 else (6, 3, 2, 2)))
    assert_close(layer(x), plain(x), rtol=0, atol=0)
    assert {name: value.tolist() for name, value in layer.state_dict().items()} == {
        name: value.tolist() for name, value in plain.state_dict().items()
    }


def test_split_norms_are_not_synchronised():
    network = norms(2, interleaved=True)
    before = type(network[0])
    unite_batch_norms(network)
    assert type(network[0]) is before
    assert (network[0].groups, network[0].interleaved) == (2, True)


def test_heads():
    plain = mlp(4, 5, 3)
    assert [type(layer).__name__ for layer in plain] == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert plain[0].bias is None
    assert plain[3].bias is not None
    assert mlp(4, 5, 3, final="plain norm")[-1].weight is None
    assert mlp(4, 5, 3, norm=False)[0].bias is not None
    unit = UnitLinear(4, 6)
    x = torch.randn(3, 4)
    assert_close(unit(5 * x), unit(x))
    assert bool((unit(x).abs() <= 1 + 1e-6).all())
    assert_close(unit(unit.weight.detach()).diagonal(), torch.ones(6))
    assert prototype_head(4, 7, hidden=8, bottleneck=5)(x).shape == (3, 7)


@pytest.mark.parametrize("size", [8, 16, 28, 32, 96])
def test_images_are_decoded(size):
    made = ConvDecoder(10, size=size, channels=3, width=4)(torch.randn(2, 10))
    assert made.shape == (2, 3, size, size)
    assert made.abs().max() <= 1


@pytest.mark.parametrize("size", [4, 30, 100])
def test_unsupported_sizes_are_rejected(size):
    with pytest.raises(UsageError, match=f"{size} px") as refusal:
        ConvDecoder(10, size=size, channels=3)
    assert "96" in refusal.value.remedy


def test_position_embeddings_are_distinct():
    places = sine_positions(4, 16)[0]
    assert places.shape == (16, 16)
    assert torch.cdist(places, places).fill_diagonal_(9).min() > 0.1
    assert_close(places[1, :8], places[2, :8])  # same row, same first half
    assert_close(places[1, 8:], places[5, 8:])  # same column, same second half


def test_memory_samples_are_equal_at_the_same_step():
    memory = Memory(3)
    memory.set(torch.arange(50), torch.randn(50, 3))
    assert memory.drawn(0, NOW) is None
    drawn = memory.drawn(20, NOW)
    assert drawn is not None
    assert drawn.shape == (20, 3)
    again, later = memory.drawn(20, NOW), memory.drawn(20, Clock(step=2, steps=4))
    assert again is not None
    assert later is not None
    assert torch.equal(drawn, again)
    assert not torch.equal(drawn, later)
    assert all(bool((row == memory.rows).all(1).any()) for row in drawn)


def test_context_does_not_depend_on_rows_below():
    context = DownwardContext(32, depth=2)
    grid = torch.randn(1, 32, 5, 4, requires_grad=True)
    context(grid)[0, :, 3, 1].sum().backward()
    seen = grid.grad.abs().sum((0, 1)) > 0  # pyright: ignore[reportOptionalMemberAccess]
    assert seen.nonzero()[:, 0].unique().tolist() == [1, 2, 3]
    assert seen[1].any()
    assert not seen[4].any()


@pytest.mark.parametrize("size", [16, 28, 32, 96])
def test_critics_have_the_requested_number_of_outputs(size):
    assert Critic(size=size, channels=3, width=4, out=5)(torch.randn(2, 3, size, size)).shape == (2, 5)


def test_codebook_returns_the_nearest_row():
    book = Codebook(3, 2)
    book.rows.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 5.0]]))
    assert book(torch.tensor([[[0.9, 0.2], [0.1, 0.1]], [[0.0, 3.0], [9.0, 0.0]]])).tolist() == [[1, 0], [2, 1]]


def test_hash_is_uniform_and_depends_on_sample_and_salt_only():
    drawn = uniform_hash(torch.arange(10_000), 7)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = torch.histc(drawn.float(), 20, 0, 1)
    assert counts.min() > 400
    assert counts.max() < 600
    assert torch.equal(uniform_hash(torch.tensor([5, 3]), 7), drawn[[5, 3]])
    assert abs(float(torch.corrcoef(torch.stack([drawn, uniform_hash(torch.arange(10_000), 8)]))[0, 1])) < 0.05


def test_neighbours_are_the_nearest_by_cosine():
    rows = torch.randn(30, 5)
    near = Neighbours()
    near.set(torch.arange(30) * 2, rows, 3)  # every other sample
    unit = normalize(rows)
    expected = (unit @ unit.T).fill_diagonal_(-2).topk(3).indices * 2
    assert torch.equal(near[torch.arange(30) * 2], expected)
    assert near[torch.tensor([1])].tolist() == [[1, 1, 1]]


def test_frozen_networks_use_their_own_normalisation():
    phi = untrained("resnet_tiny", size=16)
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
    frozen = Frozen(phi, mean, std).train()
    assert not frozen.network.training
    images = torch.rand(2, 3, 16, 16)
    given = (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    assert_close(frozen(given).pooled, phi.features(images).pooled.detach(), rtol=1e-4, atol=1e-5)
    assert frozen(given.repeat_interleave(2, 2).repeat_interleave(2, 3)).grid.shape == frozen(given).grid.shape
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


def test_repairs_act_at_corrupted_positions_only():
    painter = ConvAutoencoder(3, width=4, levels=2, repair=True).eval()
    code = painter.encode(torch.randn(1, 3, 16, 16))
    assert code.shape == (1, 8, 4, 4)
    damaged = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    assert torch.equal(painter.decode(code, damaged), painter.decode(code))
    damaged[..., 0, 0] = True
    apart = (painter.decode(code, damaged) - painter.decode(code)).abs().amax((0, 1))
    assert apart[0, 0] > 0
    assert apart[10:, 10:].max() == 0
    hidden = blurred(code, damaged)
    assert torch.equal(hidden[..., 1:, :], code[..., 1:, :])
    assert_close(hidden[..., 0, 0], code[..., :2, :2].mean((2, 3)))
