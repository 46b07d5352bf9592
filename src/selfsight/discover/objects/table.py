"""Localisers by name. Torch-free."""

from typing import TYPE_CHECKING

from selfsight.core.registry import Entry, Registry

if TYPE_CHECKING:
    from selfsight.discover.objects.localise import Localiser

__all__ = ["LOCALISERS"]

LOCALISERS: Registry["Localiser"] = Registry(
    "localiser",
    "selfsight.discover.objects",
    (
        Entry("attention", "localise:attention", "Attention of the class token (DINO, Caron et al. 2021)", ("dino_seg",)),
        Entry("background", "localise:background", "What is unlike the background seed (FOUND, Siméoni et al. 2023)", ("found",)),
        Entry("border", "localise:border", "What differs from the mean colour of the border", model_free=True, baseline=True),
        Entry("centre", "localise:centre", "The central box of half the image's area", model_free=True, baseline=True),
        Entry("cut", "localise:cut", "Normalised cut of the graph of locations (TokenCut, Wang et al. 2022)", ("tokencut",)),
        Entry(
            "fiedler", "localise:fiedler", "Sign of the Fiedler vector (deep spectral methods, Melas-Kyriazi et al. 2022)", ("spectral",)
        ),
        Entry("lost", "localise:lost", "Expansion from the location with fewest positive correlations (LOST, Siméoni et al. 2021)"),
        Entry("mask_cut", "localise:mask_cut", "Several objects by repeated normalised cuts (MaskCut, Wang et al. 2023)", ("maskcut",)),
        Entry("selective", "localise:selective", "First box of selective search (Uijlings et al. 2013)", model_free=True),
    ),
    default="cut",
)
