"""Every method by name. Torch-free, so that the command line can list and complete them."""

from typing import TYPE_CHECKING

from selfsight.core.registry import Entry, Registry

if TYPE_CHECKING:
    from selfsight.core.method import Method

__all__ = ["METHODS", "method_class"]

METHODS: Registry["type[Method]"] = Registry(
    "method",
    "selfsight.methods",
    (
        Entry(
            "align_uniform", "contrastive.align_uniform:AlignUniform", "Loss of alignment and uniformity on the sphere, without negatives"
        ),
        Entry("artifacts", "pretext.artifacts:Artifacts", "Discriminate corrupted and repaired images from real ones"),
        Entry("autoencode", "pretext.autoencode:Autoencoder", "Undercomplete autoencoder"),
        Entry("barlow", "decorrelation.barlow:BarlowTwins", "Barlow Twins: cross-correlation of two views close to the identity"),
        Entry("beit", "masked.beit:BEiT", "BEiT: predict discrete visual tokens of masked patches"),
        Entry("bigan", "generative.bigan:BiGAN", "Bidirectional GAN: the encoder inverts the generator"),
        Entry("byol", "distillation.byol:BYOL", "BYOL: predict the momentum encoder's embedding of another view"),
        Entry("cmc", "contrastive.cmc:CMC", "Contrastive multiview coding of lightness and colour"),
        Entry("colorize", "pretext.colorize:Colorize", "Colourisation: predict quantised colour from lightness"),
        Entry("context", "pretext.context:Context", "Context prediction: relative position of two patches"),
        Entry("count", "pretext.count:Count", "Counting: features of tiles add up to those of the image"),
        Entry("cpc", "contrastive.cpc:CPC", "Contrastive predictive coding over patches"),
        Entry("deepcluster", "clustering.deepcluster:DeepCluster", "DeepCluster: classify k-means clusters, recomputed each epoch"),
        Entry("deepcluster_v2", "clustering.deepcluster_v2:DeepClusterV2", "DeepCluster-v2: spherical k-means centroids as classifier"),
        Entry("denoise", "pretext.denoise:DenoisingAutoencoder", "Denoising autoencoder"),
        Entry("dim", "contrastive.dim:DIM", "Deep InfoMax: mutual information of global and local features"),
        Entry("dino", "distillation.dino:DINO", "DINO: self-distillation with centring and sharpening"),
        Entry("dinov2", "distillation.dinov2:DINOv2", "DINOv2: iBOT with a separate patch head and KoLeo regularisation"),
        Entry("distil", "distillation.distil:Distil", "Distil a frozen network's features"),
        Entry("exemplar", "pretext.exemplar:Exemplar", "Exemplar CNN: every image is a class of its augmentations"),
        Entry("gan", "generative.gan:GAN", "DCGAN: features of the discriminator"),
        Entry("ibot", "distillation.ibot:IBOT", "iBOT: DINO with masked-patch distillation"),
        Entry("iic", "clustering.iic:IIC", "Invariant information clustering of two views"),
        Entry("inpaint", "pretext.inpaint:Inpaint", "Context encoder: inpaint a masked region, with an adversarial loss"),
        Entry("jigsaw", "pretext.jigsaw:Jigsaw", "Jigsaw puzzle: classify the permutation of tiles"),
        Entry("lci", "pretext.lci:LCI", "LCI: classify limited-context inpainting, rotation and warping"),
        Entry("lejepa", "decorrelation.lejepa:LeJEPA", "LeJEPA: joint-embedding prediction with SIGReg"),
        Entry("mae", "masked.mae:MAE", "Masked autoencoder: reconstruct 75 % of the patches"),
        Entry("mean_teacher", "distillation.mean_teacher:MeanTeacher", "Mean teacher: semi-supervised consistency with a momentum network"),
        Entry("moco", "contrastive.moco:MoCo", "MoCo: contrast with a queue of momentum keys"),
        Entry("moco_v3", "contrastive.moco_v3:MoCoV3", "MoCo v3: contrast with momentum keys of the batch"),
        Entry("nnclr", "contrastive.nnclr:NNCLR", "NNCLR: nearest neighbours as positives"),
        Entry("npid", "contrastive.npid:NPID", "Instance discrimination with a memory bank"),
        Entry("pcl", "clustering.pcl:PCL", "Prototypical contrastive learning: MoCo with cluster prototypes"),
        Entry("pirl", "contrastive.pirl:PIRL", "PIRL: invariance to jigsaw shuffling with a memory bank"),
        Entry(
            "rotation_decoupling",
            "pretext.rotation_decoupling:RotationDecoupling",
            "Rotation and instance discrimination in separate halves",
        ),
        Entry("rotnet", "pretext.rotnet:RotNet", "RotNet: classify the rotation of the image"),
        Entry("scan", "clustering.scan:SCAN", "SCAN: clustering by nearest neighbours"),
        Entry("sela", "clustering.sela:SeLa", "SeLa: self-labelling by optimal transport"),
        Entry("sela_v2", "clustering.sela_v2:SeLaV2", "SeLa-v2: self-labelling with prototypes and multi-crop"),
        Entry("simclr", "contrastive.simclr:SimCLR", "SimCLR: contrast two views of each image with the batch"),
        Entry("simmim", "masked.simmim:SimMIM", "SimMIM: regress masked pixels with a linear head"),
        Entry("simsiam", "distillation.simsiam:SimSiam", "SimSiam: siamese prediction with a stop-gradient"),
        Entry("sit", "masked.sit:SiT", "SiT: reconstruction, rotation and contrast with a transformer"),
        Entry("split_brain", "pretext.split_brain:SplitBrain", "Split-brain autoencoder: predict colour from lightness and back"),
        Entry("supcon", "contrastive.supcon:SupCon", "Supervised contrastive learning (uses labels)"),
        Entry("supervised", "labelled.supervised:Classification", "Classification with labels (reference)"),
        Entry("swav", "clustering.swav:SwAV", "SwAV: swapped prediction of balanced prototype assignments"),
        Entry("vae", "generative.vae:VAE", "Variational autoencoder"),
        Entry("vicreg", "decorrelation.vicreg:VICReg", "VICReg: variance, invariance and covariance regularisation"),
        Entry("wgan_gp", "generative.wgan_gp:WGANGP", "Wasserstein GAN with gradient penalty: features of the critic"),
    ),
    default="simclr",
    remedy="selfsight methods lists them.",
)


def method_class(name: str) -> "type[Method]":
    """The class of a method.

    Raises:
        UsageError: no such method.
    """
    return METHODS.load(name)
