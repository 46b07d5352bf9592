"""Who is like whom in a data set."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from selfsight.modules.table import SampleTable

__all__ = ["Neighbours"]


class Neighbours(SampleTable):
    """The samples nearest to each sample by cosine; the table is saved with the method."""

    nearest: Tensor
    grown = "nearest"

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("nearest", torch.zeros(0, 0, dtype=torch.long))

    @torch.no_grad()
    def set(self, index: Int[Tensor, " sample"], rows: Float[Tensor, "sample dim"], count: int) -> None:
        """Find the ``count`` nearest of each of these rows; samples not named are their own neighbours."""
        unit, count = normalize(rows), min(count, len(rows) - 1)
        table = torch.arange(int(index.max()) + 1, device=index.device)[:, None].repeat(1, count)
        places = torch.arange(len(unit), device=index.device)
        for part in places.split(4096):
            likeness = unit[part] @ unit.T
            likeness[torch.arange(len(part)), part] = -2.0
            table[index[part]] = index[likeness.topk(count).indices]
        self.nearest = table
