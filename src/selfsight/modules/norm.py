"""Batch norm over the global batch, or over groups of it, on any device."""

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from selfsight.core.distribute import all_reduce_sum, rank, world_size

__all__ = ["GlobalBatchNorm1d", "GlobalBatchNorm2d", "SplitBatchNorm2d", "split_batch_norms", "unite_batch_norms"]


class _Global(nn.modules.batchnorm._BatchNorm):
    """Uses statistics over all processes; torch's SyncBatchNorm does not support tensors on the CPU."""

    groups: int = 1
    interleaved: bool = False

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or (world_size() == 1 and self.groups == 1):
            return super().forward(input)
        if world_size() == 1:
            return self._by_groups(input)
        member = self._member(len(input), input.device)
        positions = input[0, 0].numel()
        rows = input.flatten(2) if input.ndim > 2 else input[..., None]
        float_rows = rows if rows.dtype == torch.float64 else rows.float()
        sums = torch.stack([float_rows.sum(2), float_rows.square().sum(2)], 1)
        group_sums = sums.new_zeros(self.groups, 2, input.shape[1]).index_add(0, member, sums)
        count = len(input) * world_size() * positions / self.groups
        mean, square = (all_reduce_sum(group_sums) / count).unbind(1)
        variance = (square - mean.square()).clamp(min=0)
        self._remember(mean.mean(0), variance.mean(0), count)
        shape = (-1, input.shape[1], *[1] * (input.ndim - 2))
        scale = (variance + self.eps).rsqrt()
        if self.affine:
            scale = scale * self.weight
        shift = -mean * scale + (self.bias if self.affine else 0)
        return (input * scale[member].view(shape) + shift[member].view(shape)).to(input.dtype)

    def _by_groups(self, input: Tensor) -> Tensor:
        """The same in one process, group by group with torch's kernel."""
        means, variances, normalised = [], [], []
        for group in range(self.groups):
            rows = slice(group, None, self.groups) if self.interleaved else self._run(group, len(input))
            mean, variance = torch.zeros_like(self.running_mean), torch.ones_like(self.running_var)  # pyright: ignore[reportArgumentType]
            normalised.append(batch_norm(input[rows], mean, variance, self.weight, self.bias, training=True, momentum=1.0, eps=self.eps))
            means.append(mean)
            variances.append(variance)
        positions = input[0, 0].numel() * len(input) / self.groups
        biased = torch.stack(variances).mean(0) * (positions - 1) / positions
        self._remember(torch.stack(means).mean(0), biased, positions)
        if not self.interleaved:
            return torch.cat(normalised)
        joined = torch.empty_like(input)
        for group, rows in enumerate(normalised):
            joined[group :: self.groups] = rows
        return joined

    def _run(self, group: int, count: int) -> slice:
        """Rows of a contiguous group."""
        return slice(-(-group * count // self.groups), -(-(group + 1) * count // self.groups))

    def _member(self, count: int, device: torch.device) -> Tensor:
        """The group of each of this process's rows, by its position in the global batch."""
        position = torch.arange(rank() * count, (rank() + 1) * count, device=device)
        return position % self.groups if self.interleaved else position * self.groups // (count * world_size())

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: float) -> None:
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        keep = self.momentum if self.momentum is not None else 0.1
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), keep)
        self.running_var.lerp_((variance * count / max(count - 1, 1)).to(self.running_var.dtype), keep)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


class GlobalBatchNorm1d(_Global, nn.BatchNorm1d):
    """Batch norm of vectors with statistics over all processes."""


class GlobalBatchNorm2d(_Global, nn.BatchNorm2d):
    """Batch norm of feature maps with statistics over all processes."""


class SplitBatchNorm2d(GlobalBatchNorm2d):
    """Batch norm in groups of the *global* batch, as if on one device per group (He et al. 2019, arXiv:1911.05722, section 3.3)."""


def unite_batch_norms(module: nn.Module) -> None:
    """Make every batch norm of a module use statistics over all processes; parameters and buffers stay the same objects."""
    for layer in module.modules():
        if type(layer) is nn.BatchNorm1d:
            layer.__class__ = GlobalBatchNorm1d
        elif type(layer) is nn.BatchNorm2d:
            layer.__class__ = GlobalBatchNorm2d


def split_batch_norms(module: nn.Module, groups: int, *, interleaved: bool = False) -> None:
    """Split the batch norms of a convolutional network into groups of the global batch.

    Args:
        module: changed in place.
        groups: number of groups.
        interleaved: row i belongs to group i mod ``groups`` instead of to a contiguous group. With interleaved keys and
            contiguous queries, shared statistics do not identify the pair (MoCo's shuffling).
    """
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.__class__ = SplitBatchNorm2d
            vars(layer).update(groups=groups, interleaved=interleaved)
