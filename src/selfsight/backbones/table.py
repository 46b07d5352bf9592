"""Every backbone by name. Torch-free, so that the command line can list and complete them."""

from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from selfsight.core.errors import UsageError
from selfsight.core.names import look_up

if TYPE_CHECKING:
    from selfsight.core.representation import Backbone

__all__ = ["BACKBONES", "RENAMED", "build_backbone", "current_backbone"]

BACKBONES = {
    "alexnet": "image.historic:AlexNet",
    "channel_split": "image.channels:channel_split",
    "channels": "image.channels:channels",
    "dcgan": "image.dcgan:DCGAN",
    "googlenet": "image.historic:GoogLeNet",
    "hog": "image.hog:HOG",
    "resnet18": "image.resnet:resnet18",
    "resnet50": "image.resnet:resnet50",
    "resnet_tiny": "image.resnet:resnet_tiny",
    "vgg_m": "image.historic:VGGM",
    "vgg_vd_16": "image.historic:VGGVD16",
    "vit_base": "image.vit:vit_base",
    "vit_nano": "image.vit:vit_nano",
    "vit_small": "image.vit:vit_small",
    "vit_tiny": "image.vit:vit_tiny",
}


RENAMED = {"seen": ("channels", {"of": "network", "see": "keep"}), "split": ("channel_split", {"of": "network"})}
"""Backbones of version 0.1 under their present names, and their options."""


def current_backbone(spec: str | None) -> str | None:
    """The spec of a backbone with names of version 0.1 replaced by the present ones: ``seen?of=…`` is ``channels?network=…``."""
    name, mark, query = (spec or "").partition("?")
    if name not in RENAMED:
        return spec
    present, options = RENAMED[name]
    pairs = [(options.get(key, key), value) for key, value in parse_qsl(query)]
    return present + mark + "&".join(f"{key}={value}" for key, value in pairs)


def build_backbone(spec: str, *, size: int, channels: int = 3, pretrained: bool = False) -> "Backbone":
    """A backbone from its name and options, such as ``resnet18``, ``vit_tiny?patch=4&registers=4`` or ``timm:resnet18``.

    Args:
        spec: a name of ``BACKBONES`` or ``timm:NAME``, then ``?option=value&…``.
        size: side of the training images in pixels; it decides stems, strides and default patch sizes.
        channels: channels of the images.
        pretrained: load published weights (``timm:`` only).

    Raises:
        UsageError: no such backbone or option.
    """
    name, _, query = (current_backbone(spec) or spec).partition("?")
    options = {key: _value(text) for key, text in parse_qsl(query)}
    if name.startswith("timm:"):
        builder: Any = import_module("selfsight.backbones.pretrained").timm_backbone
        return builder(name.removeprefix("timm:"), pretrained=pretrained, size=size, **options)
    look_up("backbone", name, BACKBONES, f"Choose one of {', '.join(BACKBONES)}, or timm:NAME.")
    module, _, attribute = BACKBONES[name].partition(":")
    builder = getattr(import_module(f"selfsight.backbones.{module}"), attribute)
    wrong = sorted(options.keys() - signature(builder).parameters.keys())
    if wrong:
        known = ", ".join(key for key in signature(builder).parameters if key not in ("size", "channels"))
        raise UsageError(f"The backbone {name} has no option {wrong[0]!r}.", f"Its options are: {known or 'none'}.")
    return builder(size=size, channels=channels, **options)


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
