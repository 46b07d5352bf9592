"""Passing a data set through a network."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from selfsight.bank.store import OUTPUT, Bank, write_bank
from selfsight.core.representation import Representation
from selfsight.data.loader import sequential
from selfsight.data.source import Source
from selfsight.data.views.image.geometry import central_square

__all__ = ["Encoder", "extract_features", "fingerprint", "get_bank"]

Encoder = Callable[[Float[Tensor, "batch channel height width"]], Mapping[str, Float[Tensor, "batch dim"]]]
"""From pictures in [0, 1] to named vectors."""


def extract_features(
    source: Source,
    encoder: Encoder,
    *,
    size: int,
    batch: int = 256,
    device: torch.device | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> dict[str, Float[np.ndarray, "sample dim"]]:
    """The central view of every picture through an encoder, in order, without gradients; float32 rows by name."""
    kept: dict[str, list[np.ndarray]] = {}
    done = 0
    with torch.inference_mode():
        for images in sequential(source, batch):
            moved = images.map(lambda tensor: tensor.to(device)) if device else images
            for name, rows in encoder(central_square(moved, size)).items():
                kept.setdefault(name, []).append(rows.float().cpu().numpy())
            done += len(images)
            if progress:
                progress(done, len(source))
    return {name: np.concatenate(rows) for name, rows in kept.items()}


def fingerprint(phi: Representation) -> str:
    """A digest of a representation's weights, buffers and normalisation."""
    digest = hashlib.sha256(repr((phi.mean, phi.std, phi.size, phi.spec)).encode())
    for name, tensor in sorted(phi.backbone.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def get_bank(
    phi: Representation,
    source: Source,
    folder: Path,
    *,
    layers: Sequence[str] = (),
    half: bool = False,
    bf16: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> Bank:
    """The bank of a representation on a source, inside ``folder``; made when it is not there yet.

    Args:
        phi: the representation.
        source: the data set.
        folder: where banks are kept; the bank's own name is a digest of weights and data.
        layers: layers kept beside the network's output.
        half: keep float16.
        bf16: compute in bfloat16 where the network allows.
        progress: called with (done, all).
    """
    mark, kind = fingerprint(phi), "float16" if half else "float32"
    path = folder / f"{mark}-{source.fingerprint}-{phi.size}"
    if (path / "origin.json").is_file():
        bank = Bank(path)
        if set(layers) <= set(bank.layers) and bank.origin["kind"] == kind:
            return bank
    encoder = make_encoder(phi, layers, bf16=bf16)
    rows = extract_features(source, encoder, size=phi.size, device=phi.device, progress=progress)
    origin = {
        "representation": phi.name,
        "weights": mark,
        "data": source.spec,
        "fingerprint": source.fingerprint,
        "size": phi.size,
        "kind": kind,
    }
    return write_bank(path, {name: value.astype(kind) for name, value in rows.items()}, list(source.names), origin)


def make_encoder(phi: Representation, layers: Sequence[str] = (), *, bf16: bool = False) -> Encoder:
    """An encoder that says what a representation says, at its output and at layers."""

    def encode(images: Tensor) -> dict[str, Tensor]:
        with torch.autocast(phi.device.type, torch.bfloat16, enabled=bf16):
            pixels = images.contiguous(memory_format=torch.channels_last)
            return {OUTPUT: phi.pooled(pixels)} | {layer: phi.pooled(pixels, layer) for layer in layers}

    return encode
