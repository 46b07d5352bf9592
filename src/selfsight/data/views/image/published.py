"""Published views of methods with many small crops that differ from those of DINO and SwAV."""

from dataclasses import replace

from selfsight.data.views.image.blur import Blur
from selfsight.data.views.image.colour import Jitter
from selfsight.data.views.image.geometry import Crop
from selfsight.data.views.image.recipes import DINO_FIRST, DINO_SECOND, DINO_SMALL, View

__all__ = [
    "DINOV2_FIRST",
    "DINOV2_SECOND",
    "DINOV2_SMALL",
    "IBOT_FIRST",
    "IBOT_SECOND",
    "IBOT_SMALL",
    "LEJEPA_LARGE",
    "LEJEPA_SMALL",
]

IBOT_FIRST, IBOT_SECOND = (replace(view, crop=Crop((0.25, 1.0))) for view in (DINO_FIRST, DINO_SECOND))
IBOT_SMALL = replace(DINO_SMALL, crop=Crop((0.05, 0.25)))
"""Views of iBOT with a ViT-S/16 (Zhou et al. 2021, arXiv:2111.07832), with ten small ones, from the authors' code."""

DINOV2_FIRST, DINOV2_SECOND = (replace(view, crop=Crop((0.32, 1.0))) for view in (DINO_FIRST, DINO_SECOND))
DINOV2_SMALL = replace(DINO_SMALL, crop=Crop((0.05, 0.32)))
"""Views of DINOv2 (Oquab et al. 2023, arXiv:2304.07193), from the authors' code."""

LEJEPA_LARGE = View(Crop((0.3, 1.0)), jitter=Jitter(0.4, 0.4, 0.2, 0.1), grey=0.2, blur=Blur(0.5), solarise=0.2)
LEJEPA_SMALL = replace(LEJEPA_LARGE, crop=Crop((0.05, 0.3)))
"""The two large and six small views of LeJEPA (Balestriero & LeCun 2025, arXiv:2511.08544), from the authors' code."""
