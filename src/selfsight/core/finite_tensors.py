"""Check that tensors are numbers."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from selfsight.core.finite import refuse_samples

__all__ = ["require_finite_tensor"]


def require_finite_tensor(
    values: Float[Tensor, "sample *size"], samples: str = "images", names: Sequence[str] | None = None, *, what: str = "features"
) -> None:
    """Check that what a network computes of some samples is a number.

    Args:
        values: values (N, …), on any device.
        samples: what the samples are, in the plural, for the message.
        names: names of the samples; None: row numbers.
        what: what was computed of them.

    Raises:
        DataError: some are NaN or infinite; the message counts and names their samples.
    """
    finite = values.detach().isfinite().flatten(1).all(1) if values.ndim > 1 else values.detach().isfinite()
    if not bool(finite.all()):
        raise refuse_samples((~finite).nonzero()[:, 0].tolist(), len(values), samples, names, what)
