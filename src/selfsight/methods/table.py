"""Every method by name. Torch-free, so that the command line can list and complete them."""

from importlib import import_module
from typing import TYPE_CHECKING

from selfsight.core.names import look_up

if TYPE_CHECKING:
    from selfsight.core.method import Method

__all__ = ["METHODS", "method_class"]

METHODS = {
    "barlow": "decorrelation.barlow:BarlowTwins",
    "byol": "distillation.byol:BYOL",
    "deepcluster": "clustering.deepcluster:DeepCluster",
    "dino": "distillation.dino:DINO",
    "gan": "generative.gan:GAN",
    "mae": "masked.mae:MAE",
    "moco": "contrastive.moco:MoCo",
    "rotnet": "pretext.rotnet:RotNet",
    "simclr": "contrastive.simclr:SimCLR",
    "swav": "clustering.swav:SwAV",
}


def method_class(name: str) -> "type[Method]":
    """The class of a method.

    Raises:
        UsageError: no such method.
    """
    module, _, attribute = METHODS[look_up("method", name, METHODS, "selfsight methods lists them.")].partition(":")
    return getattr(import_module(f"selfsight.methods.{module}"), attribute)
