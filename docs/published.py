"""Settings of the published code, by method, and the page that compares them with the settings called the paper's."""

from dataclasses import dataclass
from inspect import signature
from typing import Any

from selfsight.methods.table import method_class

__all__ = ["PUBLISHED", "Code", "Row", "own", "page"]


@dataclass(frozen=True)
class Row:
    """One setting.

    Attributes:
        name: a key of ``own``, or ``loss`` or ``run``, which are text.
        value: of the published code, as ``own`` writes it.
        where: file and lines in the published code, several separated by spaces.
        differs: why ours is another; empty: they are equal.
    """

    name: str
    value: str
    where: str
    differs: str = ""


@dataclass(frozen=True)
class Code:
    """Published code of one method.

    Attributes:
        repository: owner and name on GitHub; empty: not released.
        commit: the version that was read.
        rows: its settings.
    """

    repository: str
    commit: str
    rows: tuple[Row, ...]


JITTER_MOCO, JITTER_BYOL, JITTER_SIMCLR = "0.4 0.4 0.4 0.1, p 0.8", "0.4 0.4 0.2 0.1, p 0.8", "0.8 0.8 0.8 0.2, p 0.8"
DECAY = "the weight decay of a run is constant here"

PUBLISHED: dict[str, Code] = {
    "simclr": Code("google-research/simclr", "383d4143fd8cf7879ae10f1046a9baeb753ff438", (
        Row("loss", "the cross-entropies of both directions, added", "objective.py#L82-L86"),
        Row("large crops", "0.08 to 1", "data_util.py#L322"),
        Row("jitter", JITTER_SIMCLR, "data_util.py#L74-L77 data_util.py#L392"),
        Row("grey", "0.2", "data_util.py#L393"),
        Row("blur", "0.5, 0.5", "data_util.py#L417"),
        Row("optimiser", "lars", "run.py#L171"),
        Row("rate", "0.3 per 256", "run.py#L43 run.py#L47"),
        Row("decay", "0.0001", "run.py#L55", "the paper has 1e-6; the released defaults are those of its second version"),
        Row("warm-up", "0.1", "run.py#L51 README.md#L102"),
        Row("final rate", "0", "model_util.py#L77-L81"),
        Row("run", "4,096 images, 100 epochs", "README.md#L102"),
    )),
    "moco": Code("facebookresearch/moco", "3b42c2a12afd20da783501e87c3ea837c054397c", (
        Row("loss", "cross-entropy of the key among the queue", "main_moco.py#L289"),
        Row("large crops", "0.2 to 1", "main_moco.py#L329"),
        Row("jitter", JITTER_MOCO, "main_moco.py#L330-L333"),
        Row("grey", "0.2", "main_moco.py#L334"),
        Row("blur", "0.5, 0.5", "main_moco.py#L335"),
        Row("optimiser", "sgd", "main_moco.py#L291"),
        Row("rate", "0.03 per 256", "main_moco.py#L71 main_moco.py#L81"),
        Row("decay", "0.0001", "main_moco.py#L100"),
        Row("warm-up", "0", "main_moco.py#L492"),
        Row("final rate", "0", "main_moco.py#L493"),
        Row("run", "256 images, 200 epochs; head, colours and cosine of version 2, `--mlp --moco-t 0.2 --aug-plus --cos`", "README.md#L51"),
    )),
    "moco_v3": Code("facebookresearch/moco-v3", "c349e6e24f40d3fedb22d973f92defa4cedf37a7", (
        Row("loss", "2 τ times the cross-entropy, both directions added", "moco/builder.py#L73 moco/builder.py#L96"),
        Row("large crops", "0.08 to 1", "main_moco.py#L117 main_moco.py#L263"),
        Row("jitter", JITTER_BYOL, "main_moco.py#L264-L266"),
        Row("grey", "0.2", "main_moco.py#L267"),
        Row("blur", "1, 0.1", "main_moco.py#L268 main_moco.py#L280"),
        Row("solarise", "0, 0.2", "main_moco.py#L281"),
        Row("optimiser", "adamw", "README.md#L117"),
        Row("rate", "0.00015 per 256", "README.md#L117 main_moco.py#L190"),
        Row("decay", "0.1", "README.md#L117"),
        Row("warm-up", "0.1333", "README.md#L118"),
        Row("final rate", "0", "main_moco.py#L425"),
        Row("run", "1,024 images, 300 epochs (ViT-S)", "README.md#L112"),
    )),
    "pcl": Code("salesforce/PCL", "964da1fb7c0546e8ce55627fa3c0debde4b7e456", (
        Row("loss", "InfoNCE and the mean of the losses on the prototypes of every clustering, added", "main_pcl.py#L361-L373"),
        Row("large crops", "0.2 to 1", "main_pcl.py#L237"),
        Row("jitter", JITTER_MOCO, "main_pcl.py#L238-L240"),
        Row("grey", "0.2", "main_pcl.py#L241"),
        Row("blur", "0.5, 0.5", "main_pcl.py#L242"),
        Row("optimiser", "sgd", "main_pcl.py#L205"),
        Row("rate", "0.03 per 256", "main_pcl.py#L52 README.md#L26-L27"),
        Row("decay", "0.0001", "main_pcl.py#L58"),
        Row("warm-up", "0", "main_pcl.py#L527"),
        Row("final rate", "0", "main_pcl.py#L527"),
        Row("run", "256 images, 200 epochs, the first 20 without prototypes", "main_pcl.py#L43-L47 main_pcl.py#L101"),
    )),
    "simsiam": Code("facebookresearch/simsiam", "a7bc1772896d0dad0806c51f0bb6f3b16d290468", (
        Row("loss", "half the sum of both negative cosines", "main_simsiam.py#L295"),
        Row("large crops", "0.2 to 1", "main_simsiam.py#L230"),
        Row("jitter", JITTER_MOCO, "main_simsiam.py#L231-L233"),
        Row("grey", "0.2", "main_simsiam.py#L234"),
        Row("blur", "0.5, 0.5", "main_simsiam.py#L235"),
        Row("optimiser", "sgd", "main_simsiam.py#L199"),
        Row("rate", "0.05 per 256", "main_simsiam.py#L56 main_simsiam.py#L157"),
        Row("decay", "0.0001", "main_simsiam.py#L60"),
        Row("warm-up", "0", "main_simsiam.py#L361"),
        Row("final rate", "0", "main_simsiam.py#L361"),
        Row("run", "512 images, 100 epochs; the predictor's rate is constant", "main_simsiam.py#L47-L51 main_simsiam.py#L193-L195"),
    )),
    "byol": Code("deepmind/deepmind-research", "d8df4155dc72fc3dfff9f857412168993348ca23", (
        Row("loss", "the squared distances of unit vectors in both directions, added",
            "byol/byol_experiment.py#L243-L250 byol/utils/helpers.py#L109-L112"),
        Row("large crops", "0.08 to 1", "byol/utils/dataset.py#L210"),
        Row("jitter", JITTER_BYOL, "byol/utils/augmentations.py#L33-L38"),
        Row("grey", "0.2", "byol/utils/augmentations.py#L40"),
        Row("blur", "1, 0.1", "byol/utils/augmentations.py#L44 byol/utils/augmentations.py#L64"),
        Row("solarise", "0, 0.2", "byol/utils/augmentations.py#L50 byol/utils/augmentations.py#L65"),
        Row("optimiser", "lars", "byol/configs/byol.py#L57-L61"),
        Row("rate", "0.2 per 256", "byol/configs/byol.py#L21 byol/utils/schedules.py#L34"),
        Row("decay", "1.5e-06", "byol/configs/byol.py#L22"),
        Row("warm-up", "0.01", "byol/configs/byol.py#L64"),
        Row("final rate", "0", "byol/utils/schedules.py#L46-L52"),
        Row("run", "4,096 images, 1,000 epochs", "byol/configs/byol.py#L21"),
    )),
    "swav": Code("facebookresearch/swav", "06b1b7cbaf6ba2a792300d79c7299db98b93b7f9", (
        Row("loss", "for each of two assigned crops the mean over all other crops, then the mean of both", "main_swav.py#L310-L315"),
        Row("large crops", "0.14 to 1", "scripts/swav_200ep_bs256_pretrain.sh#L30-L31"),
        Row("small crops", "6 of 0.05 to 0.14, side 0.43", "scripts/swav_200ep_bs256_pretrain.sh#L28-L31"),
        Row("jitter", JITTER_SIMCLR, "src/multicropdataset.py#L90-L91"),
        Row("grey", "0.2", "src/multicropdataset.py#L92"),
        Row("blur", "0.5, 0.5", "src/multicropdataset.py#L71"),
        Row("optimiser", "lars", "main_swav.py#L177"),
        Row("rate", "0.6 per 256", "scripts/swav_200ep_bs256_pretrain.sh#L41-L42"),
        Row("decay", "1e-06", "scripts/swav_200ep_bs256_pretrain.sh#L45"),
        Row("warm-up", "0", "scripts/swav_200ep_bs256_pretrain.sh#L46"),
        Row("final rate", "0.001", "scripts/swav_200ep_bs256_pretrain.sh#L43"),
        Row("run", "256 images, 200 epochs, queue of 3,840 from epoch 15", "scripts/swav_200ep_bs256_pretrain.sh#L38-L44"),
    )),
    "deepcluster_v2": Code("facebookresearch/swav", "06b1b7cbaf6ba2a792300d79c7299db98b93b7f9", (
        Row("loss", "cross-entropy, the mean over all crops and heads", "main_deepclusterv2.py#L271-L276"),
        Row("large crops", "0.14 to 1", "scripts/deepclusterv2_800ep_pretrain.sh#L31-L32"),
        Row("small crops", "6 of 0.05 to 0.14, side 0.43", "scripts/deepclusterv2_800ep_pretrain.sh#L29-L32"),
        Row("jitter", JITTER_SIMCLR, "src/multicropdataset.py#L90-L91"),
        Row("grey", "0.2", "src/multicropdataset.py#L92"),
        Row("blur", "0.5, 0.5", "src/multicropdataset.py#L71"),
        Row("optimiser", "lars", "main_deepclusterv2.py#L169"),
        Row("rate", "0.3 per 256", "scripts/deepclusterv2_800ep_pretrain.sh#L10 scripts/deepclusterv2_800ep_pretrain.sh#L38-L39"),
        Row("decay", "1e-06", "scripts/deepclusterv2_800ep_pretrain.sh#L42"),
        Row("warm-up", "0.0125", "scripts/deepclusterv2_800ep_pretrain.sh#L37 scripts/deepclusterv2_800ep_pretrain.sh#L43"),
        Row("final rate", "0.001", "scripts/deepclusterv2_800ep_pretrain.sh#L40"),
        Row("run", "4,096 images, 800 epochs", "scripts/deepclusterv2_800ep_pretrain.sh#L37-L38"),
    )),
    "sela_v2": Code("", "", (
        Row("loss", "not released; that of DeepCluster-v2 with balanced labels (appendix of arXiv:2006.09882)", ""),
        Row("large crops", "0.14 to 1", ""),
        Row("small crops", "6 of 0.05 to 0.14, side 0.43", ""),
        Row("jitter", JITTER_SIMCLR, ""),
        Row("rate", "0.3 per 256", ""),
        Row("warm-up", "0.0125", ""),
    )),
    "dino": Code("facebookresearch/dino", "7c446df5b9f45747937fb0d72314eb9f7b66930a", (
        Row("loss", "cross-entropy, the mean over pairs of a teacher's crop and another one", "main_dino.py#L392-L404"),
        Row("large crops", "0.4 to 1", "main_dino.py#L108"),
        Row("small crops", "8 of 0.05 to 0.4, side 0.43", "main_dino.py#L112-L115 main_dino.py#L452"),
        Row("jitter", JITTER_BYOL, "main_dino.py#L423-L426"),
        Row("grey", "0.2", "main_dino.py#L427"),
        Row("blur", "1, 0.1", "main_dino.py#L438 main_dino.py#L445"),
        Row("small blur", "0.5", "main_dino.py#L454"),
        Row("solarise", "0, 0.2", "main_dino.py#L446"),
        Row("optimiser", "adamw", "main_dino.py#L103"),
        Row("rate", "0.0005 per 256", "main_dino.py#L96 main_dino.py#L239"),
        Row("decay", "0.04 rising to 0.4", "main_dino.py#L82-L84", DECAY),
        Row("warm-up", "0.0333", "main_dino.py#L99 README.md#L197"),
        Row("final rate", "0.0005", "main_dino.py#L101"),
        Row("clip", "3", "main_dino.py#L87"),
        Row("run", "1,024 images, 300 epochs, teacher's temperature 0.04 to 0.07 within 30", "README.md#L197"),
    )),
    "ibot": Code("bytedance/ibot", "da316d82636a7a7356835ef224b13d5f3ace0489", (
        Row("loss", "that of DINO and that of the masked patches, added", "main_ibot.py#L553-L554"),
        Row("large crops", "0.25 to 1", "README.md#L74"),
        Row("small crops", "10 of 0.05 to 0.25, side 0.43", "README.md#L73 README.md#L75"),
        Row("jitter", JITTER_BYOL, "main_ibot.py#L578-L581"),
        Row("grey", "0.2", "main_ibot.py#L582"),
        Row("blur", "1, 0.1", "main_ibot.py#L594 main_ibot.py#L601"),
        Row("small blur", "0.5", "main_ibot.py#L610"),
        Row("solarise", "0, 0.2", "main_ibot.py#L602"),
        Row("rate", "0.0005 per 256", "main_ibot.py#L115"),
        Row("decay", "0.04 rising to 0.4", "main_ibot.py#L101-L103", DECAY),
        Row("warm-up", "0.0125", "main_ibot.py#L118 README.md#L69"),
        Row("final rate", "0.0005", "main_ibot.py#L120"),
        Row("clip", "3", "main_ibot.py#L106"),
        Row("run", "1,024 images, 800 epochs (ViT-S)", "README.md#L65-L70"),
    )),
    "dinov2": Code("facebookresearch/dinov2", "b8931f7bf91576930313be2c6d6af376033b35f0", (
        Row("loss", "those of DINO and iBOT, and 0.1 KoLeo of each large crop, added", "dinov2/train/ssl_meta_arch.py#L285-L340"),
        Row("large crops", "0.32 to 1", "dinov2/configs/ssl_default_config.yaml#L108-L110"),
        Row("small crops", "8 of 0.05 to 0.32, side 0.43", "dinov2/configs/ssl_default_config.yaml#L111-L116"),
        Row("jitter", JITTER_BYOL, "dinov2/data/augmentations.py#L66-L67"),
        Row("grey", "0.2", "dinov2/data/augmentations.py#L69"),
        Row("blur", "1, 0.1", "dinov2/data/augmentations.py#L73-L77"),
        Row("small blur", "0.5", "dinov2/data/augmentations.py#L82"),
        Row("solarise", "0, 0.2", "dinov2/data/augmentations.py#L78"),
        Row("rate", "0.004 per 1024, by the root", "dinov2/configs/ssl_default_config.yaml#L96-L102",
            "the rate is linear in the batch here; rates of layers and of the patches are not lowered"),
        Row("decay", "0.04 rising to 0.4", "dinov2/configs/ssl_default_config.yaml#L94-L95", DECAY),
        Row("warm-up", "0.1", "dinov2/configs/ssl_default_config.yaml#L98"),
        Row("final rate", "0.00025", "dinov2/configs/ssl_default_config.yaml#L99"),
        Row("clip", "3", "dinov2/configs/ssl_default_config.yaml#L100"),
        Row("run", "100 epochs of 1,250 steps", "dinov2/configs/ssl_default_config.yaml#L93"),
    )),
    "mae": Code("facebookresearch/mae", "efb2a8062c206524e35e47d04501ed4f544c0ae8", (
        Row("loss", "mean squared error of the hidden, standardised patches", "models_mae.py#L205-L213"),
        Row("large crops", "0.2 to 1", "main_pretrain.py#L124"),
        Row("optimiser", "adamw", "main_pretrain.py#L180"),
        Row("rate", "0.00015 per 256", "PRETRAIN.md#L15 main_pretrain.py#L166"),
        Row("decay", "0.05", "PRETRAIN.md#L15"),
        Row("warm-up", "0.05", "PRETRAIN.md#L13-L14"),
        Row("final rate", "0", "main_pretrain.py#L68"),
        Row("run", "4,096 images, 800 epochs", "PRETRAIN.md#L18"),
    )),
    "barlow": Code("facebookresearch/barlowtwins", "8e8d284ca0bc02f88b92328e53f9b901e86b4a3c", (
        Row("loss", "not scaled, with the rates 0.2 of weights and 0.0048 of biases; ours: scaled by their ratio 0.024, which is equal with LARS",
            "main.py#L33-L36 main.py#L218-L220"),
        Row("large crops", "0.08 to 1", "main.py#L293"),
        Row("jitter", JITTER_BYOL, "main.py#L295-L299"),
        Row("grey", "0.2", "main.py#L300"),
        Row("blur", "1, 0.1", "main.py#L301 main.py#L316"),
        Row("solarise", "0, 0.2", "main.py#L302 main.py#L317"),
        Row("optimiser", "lars", "main.py#L99"),
        Row("rate", "0.2 per 256", "main.py#L33 main.py#L158"),
        Row("decay", "1e-06", "main.py#L37"),
        Row("warm-up", "0.01", "main.py#L29 main.py#L157"),
        Row("final rate", "0.001", "main.py#L165"),
        Row("run", "2,048 images, 1,000 epochs", "main.py#L29-L31"),
    )),
    "vicreg": Code("facebookresearch/vicreg", "4e12602fd495af83efd1631fbe82523e6db092e0", (
        Row("loss", "25 invariance, 25 mean variance term of both views, 1 sum of their covariance terms", "main_vicreg.py#L198-L219"),
        Row("large crops", "0.08 to 1", "augmentations.py#L41 augmentations.py#L64"),
        Row("jitter", JITTER_BYOL, "augmentations.py#L47-L51"),
        Row("grey", "0.2", "augmentations.py#L53"),
        Row("blur", "1, 0.1", "augmentations.py#L54 augmentations.py#L77"),
        Row("solarise", "0, 0.2", "augmentations.py#L55 augmentations.py#L78"),
        Row("optimiser", "lars", "main_vicreg.py#L109"),
        Row("rate", "0.2 per 256", "README.md#L80 main_vicreg.py#L170"),
        Row("decay", "1e-06", "main_vicreg.py#L54"),
        Row("warm-up", "0.01", "README.md#L80 main_vicreg.py#L169"),
        Row("final rate", "0.001", "main_vicreg.py#L177"),
        Row("run", "2,048 images, 1,000 epochs", "README.md#L80"),
    )),
    "lejepa": Code("rbalestr-lab/lejepa", "eddffdd857a19726342ef6526e01021fb3c32cae", (
        Row("loss", "1 - λ times the distance to the mean, and λ times SIGReg; ours: the mean is that of the large views, as in the paper",
            "MINIMAL.md#L57-L75 MINIMAL.md#L172-L174"),
        Row("large crops", "0.3 to 1", "README.md#L58"),
        Row("small crops", "6 of 0.05 to 0.3, side 0.44", "README.md#L55 README.md#L58"),
        Row("jitter", JITTER_BYOL, "README.md#L60"),
        Row("grey", "0.2", "README.md#L61"),
        Row("blur", "0.5, 0.5", "README.md#L62"),
        Row("small blur", "0.5", "README.md#L62"),
        Row("solarise", "0.2, 0.2", "README.md#L63"),
        Row("optimiser", "adamw", "README.md#L69"),
        Row("rate", "0.0005, batch not said", "README.md#L70", "taken for 256 images"),
        Row("decay", "0.05", "README.md#L72"),
        Row("final rate", "0.001", "README.md#L76"),
    )),
}  # fmt: skip


def own(method: str) -> dict[str, str]:
    """The settings called the paper's, from the code."""
    kind: Any = method_class(method)
    training, recipe = kind.paper, signature(kind).parameters["recipe"].default
    first = getattr(recipe, "first", None) or recipe.view
    views = [first, getattr(recipe, "second", first)]
    jitter = first.jitter
    settings = {
        "large crops": f"{first.crop.scale[0]:g} to {first.crop.scale[1]:g}",
        "jitter": f"{jitter.brightness:g} {jitter.contrast:g} {jitter.saturation:g} {jitter.hue:g}, p {jitter.p:g}" if jitter else "none",
        "grey": f"{first.grey:g}",
        "blur": ", ".join(f"{view.blur.p if view.blur else 0:g}" for view in views),
        "solarise": ", ".join(f"{view.solarise:g}" for view in views),
        "optimiser": training.optimiser,
        "rate": f"{training.rate:g} per {training.reference_batch}",
        "decay": f"{training.decay:g}",
        "warm-up": f"{training.warmup:g}",
        "final rate": f"{training.final:g}",
        "clip": f"{training.clip:g}",
    }
    if hasattr(recipe, "small"):
        low, high = recipe.small.crop.scale
        settings["small crops"] = f"{recipe.count} of {low:g} to {high:g}, side {recipe.small_size:.2f}"
        settings["small blur"] = f"{recipe.small.blur.p:g}"
    return settings


def _links(code: Code, where: str) -> str:
    base = f"https://github.com/{code.repository}/blob/{code.commit}"
    return ", ".join(f"[{one.rpartition('/')[2].replace('#L', ' ').replace('-L', '–')}]({base}/{one})" for one in where.split())


def page() -> str:
    """Published settings beside ours, with the lines of the code."""
    lines = ["# Settings of the papers", "", "Written by `docs/generate.py` from `docs/published.py`; do not edit.", ""]
    lines += [
        "For images above 96 px a method has the settings of its paper: loss, views, rate and schedule are those of the published code, which is",
        "cited by line. Smaller images have settings of their own ([methods](methods.md)). `tests/methods/test_published_table.py` compares the",
        "table with the code, and `tests/methods/test_published_losses.py` and `test_published_settings.py` the losses with the formulas.",
        "",
        "Warm-up is a fraction of the run, the final rate a fraction of the highest, and every schedule falls as a cosine. Crops are fractions",
        "of the area, the side of a small view a fraction of a large one's; jitter is brightness, contrast, saturation and hue; blur and",
        "solarisation are the probabilities for the first and second view. In all methods crops are resampled by antialiased bilinear instead of",
        "bicubic interpolation, and the colour changes are one affine map (`Jitter(exact=True)` is torchvision's). The batch is `--batch`.",
    ]
    for method, code in PUBLISHED.items():
        settings = own(method)
        lines += ["", f"## {method}", ""]
        lines += [f"[{code.repository}](https://github.com/{code.repository})" if code.repository else "No code was released.", ""]
        lines += ["| setting | published | ours | lines |", "|---|---|---|---|"]
        for row in code.rows:
            ours = f"{settings[row.name]} ({row.differs})" if row.differs else "the same" if row.name != "run" else ""
            lines.append(f"| {row.name} | {row.value} | {ours} | {_links(code, row.where)} |")
    return "\n".join(lines) + "\n"
