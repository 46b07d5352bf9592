"""External networks as backbones: timm models by name, and any torch module."""

import socket
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import torch
from jaxtyping import Float
from torch import Tensor, nn

from selfsight.core.errors import EnvironmentFault, UsageError
from selfsight.core.files import parsing, read_json
from selfsight.core.hooks import eval_mode, tensor_of
from selfsight.core.representation import Backbone, Features

__all__ = ["ModuleBackbone", "TimmBackbone", "published_size", "timm_backbone", "wrap_backbone"]

_LOCAL = "local-dir:"


class TimmBackbone(Backbone):
    """A timm model without its classifier.

    Attributes:
        prefix: number of class and register tokens before the patches; 0 for convolutional networks.
        pool: ``"cls"`` if the pooled vector is the class token, else ``"mean"``.
        channels_last: whether its layers return feature maps with the channels as last axis.
        mean: per-channel mean of the normalisation of its published weights.
        std: per-channel standard deviation of the normalisation of its published weights.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.prefix = int(getattr(model, "num_prefix_tokens", 0))
        self.pool = "cls" if self.prefix and getattr(model, "global_pool", "") == "token" else "mean"
        self.dim = int(getattr(model, "head_hidden_size", model.num_features))
        config = getattr(model, "pretrained_cfg", {})
        self.mean, self.std = tuple(config.get("mean", (0.485, 0.456, 0.406))), tuple(config.get("std", (0.229, 0.224, 0.225)))
        self.channels = int(getattr(model, "in_chans", 0)) or _input_channels(model)
        patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
        stages = getattr(model, "feature_info", None) or []
        self.stride = int(stages[-1]["reduction"]) if stages else int(patch[0] if patch is not None else 32)
        names = [f"model.{stage['module']}" for stage in stages]
        known = dict(self.named_modules())
        self.layers = tuple(name for name in dict.fromkeys(names) if name in known) or _plain_layers(self, "model")
        self.channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"

    def forward(self, images: Float[Tensor, "batch channel *size"]) -> Features:
        model: Any = self.model
        features = model.forward_features(images)
        pooled = model.forward_head(features, pre_logits=True)
        if features.ndim == 3:
            return Features(pooled, _cells(features[:, self.prefix :], tuple(images.shape[-2:])))
        return Features(pooled, features.permute(0, 3, 1, 2) if self.channels_last else features)


class ModuleBackbone(Backbone):
    """Any torch module whose output is a feature map (4 axes), tokens (3) or a vector (2).

    The pooled vector is the spatial mean, or the vector itself. The number of tokens before the patches is the module's
    ``num_prefix_tokens`` if it has this attribute; otherwise tokens in excess of a square are skipped.

    Args:
        module: the module.
        size: side of its images in pixels.

    Raises:
        UsageError: its output has another number of axes.
    """

    def __init__(self, module: nn.Module, *, size: int) -> None:
        super().__init__()
        self.module, self.channels = module, _input_channels(module)
        self.prefix, self.pool = 0, "mean"
        weight = next(module.parameters(), torch.zeros(()))
        with torch.no_grad(), eval_mode(module):
            output = tensor_of(module(torch.zeros(1, self.channels, size, size, dtype=weight.dtype, device=weight.device)))
        if output.ndim not in (2, 3, 4):
            raise UsageError(
                f"The module returns {output.ndim} axes.", "Wrap one that returns a feature map, tokens or one vector per image."
            )
        if output.ndim == 3:
            square = int(output.shape[1] ** 0.5) ** 2
            self.prefix = int(getattr(module, "num_prefix_tokens", output.shape[1] - square))
        self.dim = output.shape[2] if output.ndim == 3 else output.shape[1]
        cells = {2: 1, 3: int((output.shape[1] - self.prefix) ** 0.5), 4: output.shape[-1]}[output.ndim]
        self.stride = max(1, round(size / cells))
        self.layers = _plain_layers(self, "module")

    def forward(self, images: Float[Tensor, "batch channel *size"]) -> Features:
        output = tensor_of(self.module(images))
        if output.ndim == 2:
            return Features(output, output[..., None, None])
        grid = _cells(output[:, self.prefix :], tuple(images.shape[-2:])) if output.ndim == 3 else output
        return Features(grid.mean((2, 3)), grid)


def timm_backbone(name: str, *, pretrained: bool, size: int | None = None, options: Mapping[str, Any] | None = None) -> TimmBackbone:
    """A timm model as a backbone.

    Args:
        name: its name in timm, or ``local-dir:PATH`` of a folder with ``config.json`` and weights in timm's format.
        pretrained: load its published weights.
        size: side of the images in pixels, for models with a fixed size; by default their own.
        options: passed to timm.

    Raises:
        UsageError: timm has no model of that name.
        EnvironmentFault: the weights are neither on this machine nor can be downloaded.
    """
    import timm

    if name.startswith(_LOCAL):
        with parsing(Path(name.removeprefix(_LOCAL)) / "config.json"):
            config = _local_config(name)
            fixed = config.get("pretrained_cfg", config).get("fixed_input_size", False)
    else:
        if not timm.is_model(name):
            near = ", ".join(get_close_matches(name.partition(".")[0], timm.list_models(), n=5))
            raise UsageError(f"timm has no model {name!r}.", f"Similar models: {near or 'see timm.list_models()'}.")
        published = timm.get_pretrained_cfg(name)
        fixed = bool(published and published.fixed_input_size)
    created = dict(options or {})
    if fixed and size:
        created = {"img_size": size, **created}
    if pretrained and not name.startswith(_LOCAL):
        created |= _cached_weights(name)
    try:
        model = _created(name, fixed=fixed, pretrained=pretrained, num_classes=0, **created)
    except (OSError, RuntimeError, ValueError) as error:
        if not pretrained:
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise _no_weights(name, reason) from error
    return TimmBackbone(model)


def published_size(name: str) -> int:
    """Side in pixels of the images for which a timm model was trained; 224 if it is not recorded.

    Args:
        name: its name in timm, or ``local-dir:PATH``; options such as ``?img_size=…`` may follow.

    Raises:
        UsageError: the folder has no configuration.
    """
    import timm

    name, _, query = name.partition("?")
    options, shape = dict(parse_qsl(query)), None
    if name.startswith(_LOCAL):
        config = _local_config(name)
        options = {**config.get("model_args", {}), **options}
        shape = config.get("pretrained_cfg", config).get("input_size")
    elif timm.is_model(name) and (published := timm.get_pretrained_cfg(name)):
        shape = published.input_size
    side = options.get("img_size", shape[-1] if shape else 224)
    return int(side[-1] if isinstance(side, list | tuple) else side)


def _local_config(name: str) -> dict[str, Any]:
    file = Path(name.removeprefix(_LOCAL)) / "config.json"
    if not file.is_file():
        raise UsageError(f"{file} does not exist.", "Use a folder written by timm, with config.json and the weights.")
    return read_json(file)


def _created(name: str, *, fixed: bool, **options: Any) -> Any:
    """Create a timm model; position embeddings of models with a fixed size are resampled where timm supports it."""
    import timm

    try:
        return timm.create_model(name, **({"dynamic_img_size": True} if fixed else {}), **options)
    except TypeError as problem:
        if "dynamic_img_size" not in str(problem):
            raise
        return timm.create_model(name, **options)


def _cached_weights(name: str) -> dict[str, Any]:
    """Options that make timm read a local copy, if there is one.

    Raises:
        EnvironmentFault: there is neither a copy nor a network.
    """
    import timm
    from huggingface_hub import try_to_load_from_cache

    published = timm.get_pretrained_cfg(name)
    if published is None or not published.has_weights:
        raise _no_weights(name, "none were published")
    if not published.hf_hub_id or published.file:
        return {}
    for file in ("model.safetensors", "pytorch_model.bin"):
        found = try_to_load_from_cache(published.hf_hub_id, file)
        if isinstance(found, str):
            return {"pretrained_cfg_overlay": {"file": found}}
    try:
        socket.getaddrinfo("huggingface.co", 443)
    except OSError as error:
        raise _no_weights(name, "they are not on this machine, and huggingface.co cannot be reached") from error
    return {}


def _no_weights(name: str, reason: str) -> EnvironmentFault:
    return EnvironmentFault(
        f"The weights of {name} are not available: {reason}.",
        "Connect to the network once to download them, or use timm:local-dir:PATH with a folder of the weights.",
    )


def wrap_backbone(module: nn.Module, *, size: int) -> Backbone:
    """Any torch module as a backbone: own ones unchanged, timm's without classifier, others as ``ModuleBackbone``.

    Args:
        module: maps normalised images to a feature map, tokens or one vector per image.
        size: side of its images in pixels.

    Raises:
        UsageError: it has another output.
    """
    if isinstance(module, Backbone):
        return module
    if hasattr(module, "forward_features") and hasattr(module, "forward_head"):
        return TimmBackbone(module)
    return ModuleBackbone(module, size=size)


def _cells(patches: Float[Tensor, "batch patch dim"], size: tuple[int, ...]) -> Float[Tensor, "batch dim rows columns"]:
    """Arrange tokens in rows and columns according to the image's aspect ratio."""
    count, (height, width) = patches.shape[1], size
    rows = round((count * height / width) ** 0.5)
    if rows == 0 or count % rows:
        raise UsageError(f"{count} patches do not tile an image of {height} x {width} pixels.", "Use images of another size.")
    return patches.transpose(1, 2).unflatten(2, (rows, count // rows))


def _input_channels(module: nn.Module) -> int:
    """Input channels of the first convolution; 3 if there is none."""
    first = next((part for part in module.modules() if isinstance(part, nn.Conv2d | nn.Conv3d)), None)
    return 3 if first is None else first.in_channels


def _plain_layers(backbone: nn.Module, name: str) -> tuple[str, ...]:
    """A module's children; those of its lists and sequences one by one."""
    found: list[str] = []
    for child, part in backbone.get_submodule(name).named_children():
        listed = isinstance(part, nn.Sequential | nn.ModuleList)
        found += [f"{name}.{child}.{number}" for number in range(len(part))] if listed else [f"{name}.{child}"]
    return tuple(found)
