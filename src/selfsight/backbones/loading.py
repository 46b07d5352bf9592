"""Representations by name: of a run, of timm, or untrained."""

from pathlib import Path

import torch

from selfsight.backbones.pretrained import published_size
from selfsight.backbones.table import build_backbone
from selfsight.core.bounds import check_numbers
from selfsight.core.errors import UsageError
from selfsight.core.files import inside, parsing, read_json
from selfsight.core.representation import Representation
from selfsight.core.rng import seeded_rng
from selfsight.core.weights import fill, read_weights

__all__ = ["load_representation", "untrained", "untrained_twin"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_representation(spec: str | Path, *, size: int | None = None) -> Representation:
    """The representation of a run, of a timm model with its published weights, or of an untrained network.

    Args:
        spec: folder of a run (for a run in progress its newest checkpoint) or of a checkpoint, ``timm:NAME``, ``timm:local-dir:PATH`` or
            ``untrained:NAME``.
        size: side of the images in pixels, for models only; by default the side at which a timm model was trained, for untrained ones 96.

    Raises:
        UsageError: it is none of these, or the size is not from 8 to 8192.
        DataError: a file of the run is damaged.
        EnvironmentFault: published weights are not available on this machine.
    """
    text = str(spec)
    check_numbers({"size": size})
    if text.startswith("timm:"):
        side = size or published_size(text.removeprefix("timm:"))
        backbone = build_backbone(text, size=side, pretrained=True)
        mean, std = getattr(backbone, "mean", IMAGENET_MEAN), getattr(backbone, "std", IMAGENET_STD)
        return Representation(backbone, mean=mean, std=std, size=side, name=text, spec=text)
    if text.startswith("untrained:"):
        return untrained(text.removeprefix("untrained:"), size=size or 96)
    run, weights = _learnt(Path(spec))
    card = read_json(inside(run, "export/config.json"))
    with parsing(run / "export" / "config.json"):
        architecture, shape = str(card["architecture"]), card["pretrained_cfg"]
        channels, side = int(shape["input_size"][0]), int(shape["input_size"][-1])
        mean, std = ([float(value) for value in shape[name]] for name in ("mean", "std"))
    backbone = build_backbone(architecture, size=side, channels=channels)
    fill(backbone, _backbone(weights), weights)
    step = weights.parent.name.removeprefix("step_")
    name = f"{run.name} at step {int(step)}" if weights.parent.name != "export" and step.isdigit() else run.name
    return Representation(backbone, mean=mean, std=std, size=side, name=name, spec=architecture)


def _learnt(folder: Path) -> tuple[Path, Path]:
    """Folder of the run, and its weights file: final, of the newest checkpoint, or of the given checkpoint.

    Raises:
        UsageError: the folder is not of a run, or there are no weights yet.
    """
    run = folder.parents[1] if (folder / "method.safetensors").is_file() else folder
    if not (run / "export" / "config.json").is_file():
        raise UsageError(
            f"{folder} is not a run: it has no export/config.json.", "Use a run's folder, or a model as timm:NAME or untrained:NAME."
        )
    last = run / "checkpoints" / "last.json"
    newest = inside(run / "checkpoints", str(read_json(last).get("checkpoint"))) if last.is_file() else run
    found = [folder / "method.safetensors", run / "export" / "model.safetensors", newest / "method.safetensors"]
    for file in found:
        if file.is_file():
            return run, file
    raise UsageError(f"{folder} has no weights yet.", "Wait for its first checkpoint.")


def _backbone(weights: Path) -> dict[str, torch.Tensor]:
    """The backbone's weights, from a file that may contain a whole method's."""
    found = read_weights(weights)
    if weights.name != "method.safetensors":
        return found
    return {name.removeprefix("backbone."): value for name, value in found.items() if name.startswith("backbone.")}


def untrained(spec: str, *, size: int = 32, seed: int = 0) -> Representation:
    """A backbone with random weights.

    Args:
        spec: name of the backbone.
        size: side of the images in pixels.
        seed: seed of the weights.
    """
    with seeded_rng(seed):
        backbone = build_backbone(spec, size=size)
    return Representation(backbone, mean=IMAGENET_MEAN, std=IMAGENET_STD, size=size, name=f"untrained {spec}", spec=spec)


def untrained_twin(phi: Representation, seed: int) -> Representation:
    """The same architecture with random weights; its batch statistics are those of initialisation.

    Args:
        phi: the representation.
        seed: seed of the weights.

    Raises:
        UsageError: the architecture cannot be built by name.
    """
    if not phi.spec:
        raise UsageError(f"{phi.name} cannot be built without its weights.", "Pass the function that builds it to wrap().")
    with seeded_rng(seed):
        backbone = build_backbone(phi.spec, size=phi.size, channels=phi.backbone.channels)
    return Representation(
        backbone.to(phi.device), mean=phi.mean, std=phi.std, size=phi.size, name=f"{phi.name} untrained {seed}", spec=phi.spec
    )
