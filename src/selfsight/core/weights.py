"""Weights in safetensors files, with errors that name the file."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from selfsight.core.errors import DataError

__all__ = ["fill", "read_weights"]


def read_weights(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file by name.

    Args:
        file: path of the file.

    Raises:
        DataError: it is damaged, or of another format.
        OSError: it cannot be read.
    """
    try:
        return load_file(file)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise DataError(f"{file} is not a complete safetensors file: {error}.", "Restore it from a copy, or train again.") from error


def fill(module: nn.Module, tensors: dict[str, torch.Tensor], file: Path) -> None:
    """Load weights into a module.

    Args:
        module: filled in place.
        tensors: weights by name.
        file: where they come from, for the message.

    Raises:
        DataError: names or shapes differ from those of the module.
    """
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise DataError(
            f"{file} has the weights of another network: {(lines[1:] or lines)[0].strip()}", "Use the folder as selfsight wrote it."
        ) from error
