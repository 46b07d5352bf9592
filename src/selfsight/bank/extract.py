"""Extraction of features: all layers in one pass, streamed to disk."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from selfsight.bank.store import OUTPUT, Bank, BankWriter
from selfsight.core.cache import digest
from selfsight.core.errors import DataError
from selfsight.core.finite import refuse_samples, require_finite
from selfsight.core.representation import Representation
from selfsight.data.evaluation_view import EvaluationView
from selfsight.data.loader import sequential
from selfsight.data.source import Source

__all__ = ["Encoder", "extract_features", "fingerprint", "get_bank", "make_encoder", "stream_features"]

Encoder = Callable[[Float[Tensor, "batch channel *size"]], Mapping[str, Float[Tensor, "batch dim"]]]
"""Function from images (N, C, H, W) in [0, 1] to features (N, D) by layer."""


def stream_features(
    source: Source,
    encoder: Encoder,
    *,
    size: int,
    batch: int = 256,
    device: torch.device | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Iterator[dict[str, Float[np.ndarray, "batch dim"]]]:
    """Encode the central square of every image, in order, without gradients.

    Args:
        source: the data set.
        encoder: function from images to features by layer.
        size: side of the square in pixels.
        batch: images per batch.
        device: device of the encoder.
        progress: called with (images done, images).

    Yields:
        Float32 features by layer, batch by batch.
    """
    done, view = 0, EvaluationView(source, size, device)
    for images in sequential(source, batch):
        with torch.inference_mode():
            found = {name: rows.float().cpu().numpy() for name, rows in encoder(view.of(images)).items()}
        done += len(images)
        if progress:
            progress(done, len(source))
        yield found


def extract_features(
    source: Source,
    encoder: Encoder,
    *,
    size: int,
    batch: int = 256,
    device: torch.device | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> dict[str, Float[np.ndarray, "sample dim"]]:
    """The features of ``stream_features``, concatenated in memory.

    Args:
        source: the data set.
        encoder: function from images to features by layer.
        size: side of the central square in pixels.
        batch: images per batch.
        device: device of the encoder.
        progress: called with (images done, images).

    Returns:
        Features (N, D) by layer.

    Raises:
        DataError: some features are NaN or infinite.
    """
    kept: dict[str, list[np.ndarray]] = {}
    for found in stream_features(source, encoder, size=size, batch=batch, device=device, progress=progress):
        for name, rows in found.items():
            kept.setdefault(name, []).append(rows)
    features = {name: np.concatenate(rows) for name, rows in kept.items()}
    for rows in features.values():
        require_finite(rows, source.spec, source.names)
    return features


def fingerprint(phi: Representation) -> str:
    """A digest of a representation's weights, buffers and normalisation."""

    def parts() -> Iterator[str | bytes]:
        yield repr((phi.mean, phi.std, phi.size, phi.spec))
        for name, tensor in sorted(phi.backbone.state_dict().items()):
            yield name
            yield tensor.detach().cpu().contiguous().numpy().tobytes()

    return digest(parts(), separated=False)


def _intact(path: Path) -> Bank | None:
    """The bank in a folder; None if there is none, or it is damaged and has to be computed again."""
    if not (path / "origin.json").is_file():
        return None
    try:
        bank = Bank(path)
        for layer in bank.layers:
            bank.pooled(layer)
    except (DataError, FileNotFoundError):
        return None
    return bank


def _finite(rows: Mapping[str, Float[np.ndarray, "batch dim"]]) -> Bool[np.ndarray, " batch"]:
    """Whether a sample's features are numbers in all layers."""
    return np.logical_and.reduce([np.isfinite(values).reshape(len(values), -1).all(1) for values in rows.values()])


def get_bank(
    phi: Representation, source: Source, folder: Path, *, layers: Sequence[str] = (), half: bool = False, bf16: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> Bank:  # fmt: skip
    """The bank (cached features) of a representation on a source; missing layers are extracted.

    Layers in the bank are kept when others are added. Each precision has a bank of its own.

    Args:
        phi: the representation.
        source: the data set.
        folder: folder of all banks; a bank's name is a digest of weights, data, size and precision.
        layers: layers to store besides the network's output.
        half: store float16 instead of float32.
        bf16: compute in bfloat16 where the network supports it.
        progress: called with (images done, images).

    Raises:
        DataError: some features are NaN or infinite; no bank is written.
    """
    weights, dtype, precision = fingerprint(phi), "float16" if half else "float32", "bf16" if bf16 else "fp32"
    path = folder / f"{weights}-{source.fingerprint}-{phi.size}-{precision}{'-half' if half else ''}"
    if (bank := _intact(path)) and set(layers) <= set(bank.layers):
        return bank
    if bank:
        layers = tuple(dict.fromkeys((*(name for name in bank.layers if name != OUTPUT), *layers)))
    origin = {"representation": phi.name, "weights": weights, "data": source.spec, "fingerprint": source.fingerprint, "size": phi.size}
    wrong = list[int]()
    with BankWriter(path, len(source), dtype) as writer:
        for found in stream_features(source, make_encoder(phi, layers, bf16=bf16), size=phi.size, device=phi.device, progress=progress):
            wrong += (writer.done + np.flatnonzero(~_finite(found))).tolist()
            writer.add(found)
        if wrong:
            raise refuse_samples(wrong, len(source), f"{source.spec} samples", source.names)
        return writer.finish(list(source.names), origin | {"kind": dtype, "precision": precision})


def make_encoder(phi: Representation, layers: Sequence[str] = (), *, bf16: bool = False) -> Encoder:
    """An encoder of the network's output and of layers, with one forward pass per batch.

    Args:
        phi: the representation.
        layers: names of layers besides the output.
        bf16: compute in bfloat16.
    """

    def encode(images: Tensor) -> dict[str, Tensor]:
        with torch.autocast(phi.device.type, torch.bfloat16, enabled=bf16):
            output, inner = phi.pooled_layers(images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images, layers)
            return {OUTPUT: output} | inner

    return encode
