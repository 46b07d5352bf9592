"""The conditional random field, compared with its definition."""

import numpy as np
import torch

from selfsight.discover.dense.refine import Field, mean_field, refined


def test_without_pairwise_terms_every_cell_keeps_its_label() -> None:
    unary = torch.randn(2, 3, 20, generator=torch.Generator().manual_seed(0))
    found = mean_field(unary, torch.zeros(2, 20, 20))
    assert torch.equal(found.argmax(1), unary.argmin(1))
    torch.testing.assert_close(found, (-unary).softmax(1))


def test_a_mean_field_iteration_equals_the_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    unary = torch.randn(1, 2, 5, generator=generator, dtype=torch.float64)
    kernel = torch.rand(1, 5, 5, generator=generator, dtype=torch.float64)
    kernel = kernel + kernel.transpose(1, 2)
    kernel.diagonal(dim1=1, dim2=2).zero_()
    chance = np.exp(-unary[0].numpy())
    chance /= chance.sum(0)
    for _ in range(3):  # the sum over pairs of cells, as the paper has it: what differs from j costs
        cost = np.array([[sum(float(kernel[0, i, j]) * (1 - chance[label, j]) for j in range(5)) for i in range(5)] for label in range(2)])
        chance = np.exp(-unary[0].numpy() - cost)
        chance /= chance.sum(0)
    np.testing.assert_allclose(mean_field(unary, kernel, 3)[0].numpy(), chance, rtol=1e-10)


def test_kernels_are_symmetric_and_larger_for_similar_cells() -> None:
    colours = torch.zeros(1, 3, 4, 6)
    colours[..., 3:] = 1
    kernel = Field(smooth=0).kernel(colours)[0]
    torch.testing.assert_close(kernel, kernel.T)
    assert float(kernel.diagonal().sum()) == 0
    assert float(kernel[2, 1]) > 1e3 * float(kernel[2, 3])  # its neighbours to both sides: one of its colour, one not


def test_a_shifted_mask_is_refined_to_the_colour_edge() -> None:
    truth = np.zeros((32, 32), dtype=bool)
    truth[8:24, 8:24] = True
    pixels = torch.where(torch.from_numpy(truth), 0.9, 0.1)[None, None].expand(1, 3, -1, -1)
    rough = np.roll(truth, 2, 1)[None, ::4, ::4]
    assert (np.kron(rough[0], np.ones((4, 4))) != truth).any()
    assert np.array_equal(refined(rough, pixels)[0], truth)
