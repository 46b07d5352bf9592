"""Every method by name. Torch-free, so that the command line can list and complete them."""

from importlib import import_module
from typing import TYPE_CHECKING

from selfsight.core.names import look_up

if TYPE_CHECKING:
    from selfsight.core.method import Method

__all__ = ["METHODS", "method_class"]

METHODS = {
    "align_uniform": "contrastive.align_uniform:AlignUniform",
    "autoencode": "pretext.autoencode:Autoencoder",
    "barlow": "decorrelation.barlow:BarlowTwins",
    "byol": "distillation.byol:BYOL",
    "context": "pretext.context:Context",
    "count": "pretext.count:Count",
    "deepcluster": "clustering.deepcluster:DeepCluster",
    "deepcluster_v2": "clustering.deepcluster_v2:DeepClusterV2",
    "denoise": "pretext.denoise:DenoisingAutoencoder",
    "dino": "distillation.dino:DINO",
    "gan": "generative.gan:GAN",
    "ibot": "distillation.ibot:IBOT",
    "iic": "clustering.iic:IIC",
    "jigsaw": "pretext.jigsaw:Jigsaw",
    "mae": "masked.mae:MAE",
    "moco": "contrastive.moco:MoCo",
    "moco_v3": "contrastive.moco_v3:MoCoV3",
    "nnclr": "contrastive.nnclr:NNCLR",
    "npid": "contrastive.npid:NPID",
    "rotnet": "pretext.rotnet:RotNet",
    "sela": "clustering.sela:SeLa",
    "simclr": "contrastive.simclr:SimCLR",
    "simmim": "masked.simmim:SimMIM",
    "simsiam": "distillation.simsiam:SimSiam",
    "swav": "clustering.swav:SwAV",
    "vae": "generative.vae:VAE",
    "vicreg": "decorrelation.vicreg:VICReg",
}


def method_class(name: str) -> "type[Method]":
    """The class of a method.

    Raises:
        UsageError: no such method.
    """
    module, _, attribute = METHODS[look_up("method", name, METHODS, "selfsight methods lists them.")].partition(":")
    return getattr(import_module(f"selfsight.methods.{module}"), attribute)
