"""Every backbone by name. Torch-free, so that the command line can list and complete them."""

from importlib import import_module
from inspect import signature
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from selfsight.core.errors import UsageError
from selfsight.core.names import parse_value
from selfsight.core.registry import Entry, Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from selfsight.core.representation import Backbone

__all__ = ["BACKBONES", "RENAMED", "build_backbone", "current_backbone"]

BACKBONES: Registry["Callable[..., Backbone]"] = Registry(
    "backbone",
    "selfsight.backbones",
    (
        Entry("alexnet", "image.historic:AlexNet", "AlexNet (Krizhevsky et al. 2012), 61 M parameters"),
        Entry("channel_split", "image.channels:channel_split", "Two networks on two parts of the channels of a colour space"),
        Entry("channels", "image.channels:channels", "A network on some channels of a colour space"),
        Entry("dcgan", "image.dcgan:DCGAN", "DCGAN's discriminator: strided convolutions"),
        Entry("googlenet", "image.historic:GoogLeNet", "GoogLeNet (Szegedy et al. 2014), 6 M parameters"),
        Entry("hog", "image.hog:HOG", "Histogram of oriented gradients (Dalal & Triggs 2005), not trained"),
        Entry("r3d_tiny", "video.resnet3d:r3d_tiny", "3-D residual network on clips, for CPUs (after Tran et al. 2018)"),
        Entry("resnet18", "image.resnet:resnet18", "ResNet-18, 11 M parameters"),
        Entry("resnet50", "image.resnet:resnet50", "ResNet-50, 24 M parameters"),
        Entry("resnet_tiny", "image.resnet:resnet_tiny", "Four stages of basic blocks, 32 to 256 channels, for CPUs"),
        Entry("spectrogram_tiny", "audio.spectrogram:spectrogram_tiny", "Residual network on log-mel spectrograms, for CPUs"),
        Entry("vgg_m", "image.historic:VGGM", "VGG-M (Chatfield et al. 2014), 103 M parameters"),
        Entry("vgg_vd_16", "image.historic:VGGVD16", "VGG-VD-16 (Simonyan & Zisserman 2014), 138 M parameters"),
        Entry("vit_base", "image.vit:vit_base", "ViT-B, 86 M parameters"),
        Entry("vit_nano", "image.vit:vit_nano", "Four blocks of width 192, 1.8 M parameters, for CPUs"),
        Entry("vit_small", "image.vit:vit_small", "ViT-S, 22 M parameters"),
        Entry("vit_tiny", "image.vit:vit_tiny", "ViT-Ti, 5.5 M parameters"),
    ),
    default="resnet_tiny",
    remedy="selfsight doctor --names lists them; timm:NAME is a model of timm.",
)


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
        UsageError: no such backbone or option, or it cannot be made with these values.
    """
    name, _, query = (current_backbone(spec) or spec).partition("?")
    options: dict[str, Any] = {key: parse_value(text) for key, text in parse_qsl(query)}
    if name.startswith("timm:"):
        builder: Any = import_module("selfsight.backbones.pretrained").timm_backbone
        return builder(name.removeprefix("timm:"), pretrained=pretrained, size=size, options=options)
    builder = BACKBONES.load(name)
    wrong = sorted(options.keys() - signature(builder).parameters.keys())
    if wrong:
        known = ", ".join(key for key in signature(builder).parameters if key not in ("size", "channels"))
        raise UsageError(f"The backbone {name} has no option {wrong[0]!r}.", f"Its options are: {known or 'none'}.")
    try:
        if options.get("width", 1) <= 0:
            raise ValueError(f"its width is {options['width']}")
        return builder(size=size, channels=channels, **options)
    except (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError, AssertionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        remedy = "Change its options, such as width, or --size." if options else "Change --size."
        raise UsageError(f"The backbone {spec} cannot be made for images of {size} px: {reason}", remedy) from error
