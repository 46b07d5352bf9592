"""Every method by name. Torch-free, so that the command line can list and complete them."""

from importlib import import_module
from typing import TYPE_CHECKING

from selfsight.core.names import look_up

if TYPE_CHECKING:
    from selfsight.core.method import Method

__all__ = ["METHODS", "method_class"]

METHODS = {
    "align_uniform": "contrastive.align_uniform:AlignUniform",
    "artifacts": "pretext.artifacts:Artifacts",
    "autoencode": "pretext.autoencode:Autoencoder",
    "barlow": "decorrelation.barlow:BarlowTwins",
    "beit": "masked.beit:BEiT",
    "bigan": "generative.bigan:BiGAN",
    "byol": "distillation.byol:BYOL",
    "cmc": "contrastive.cmc:CMC",
    "colorize": "pretext.colorize:Colorize",
    "context": "pretext.context:Context",
    "count": "pretext.count:Count",
    "cpc": "contrastive.cpc:CPC",
    "deepcluster": "clustering.deepcluster:DeepCluster",
    "deepcluster_v2": "clustering.deepcluster_v2:DeepClusterV2",
    "denoise": "pretext.denoise:DenoisingAutoencoder",
    "dim": "contrastive.dim:DIM",
    "dino": "distillation.dino:DINO",
    "dinov2": "distillation.dinov2:DINOv2",
    "distil": "distillation.distil:Distil",
    "exemplar": "pretext.exemplar:Exemplar",
    "gan": "generative.gan:GAN",
    "ibot": "distillation.ibot:IBOT",
    "iic": "clustering.iic:IIC",
    "inpaint": "pretext.inpaint:Inpaint",
    "jigsaw": "pretext.jigsaw:Jigsaw",
    "lci": "pretext.lci:LCI",
    "lejepa": "decorrelation.lejepa:LeJEPA",
    "mae": "masked.mae:MAE",
    "mean_teacher": "distillation.mean_teacher:MeanTeacher",
    "moco": "contrastive.moco:MoCo",
    "moco_v3": "contrastive.moco_v3:MoCoV3",
    "nnclr": "contrastive.nnclr:NNCLR",
    "npid": "contrastive.npid:NPID",
    "pcl": "clustering.pcl:PCL",
    "pirl": "contrastive.pirl:PIRL",
    "rotation_decoupling": "pretext.rotation_decoupling:RotationDecoupling",
    "rotnet": "pretext.rotnet:RotNet",
    "scan": "clustering.scan:SCAN",
    "sela": "clustering.sela:SeLa",
    "sela_v2": "clustering.sela_v2:SeLaV2",
    "simclr": "contrastive.simclr:SimCLR",
    "simmim": "masked.simmim:SimMIM",
    "simsiam": "distillation.simsiam:SimSiam",
    "sit": "masked.sit:SiT",
    "split_brain": "pretext.split_brain:SplitBrain",
    "supcon": "contrastive.supcon:SupCon",
    "supervised": "labelled.supervised:Classification",
    "swav": "clustering.swav:SwAV",
    "vae": "generative.vae:VAE",
    "vicreg": "decorrelation.vicreg:VICReg",
    "wgan_gp": "generative.wgan_gp:WGANGP",
}


def method_class(name: str) -> "type[Method]":
    """The class of a method.

    Raises:
        UsageError: no such method.
    """
    module, _, attribute = METHODS[look_up("method", name, METHODS, "selfsight methods lists them.")].partition(":")
    return getattr(import_module(f"selfsight.methods.{module}"), attribute)
