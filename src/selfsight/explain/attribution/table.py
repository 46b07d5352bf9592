"""The table of attribution methods, in strings, so that a command line can offer them without torch."""

from collections.abc import Callable

from selfsight.core.registry import Entry, Registry

__all__ = ["ATTRIBUTIONS"]

ATTRIBUTIONS: Registry[Callable[..., object]] = Registry(
    "attribution method",
    "selfsight.explain.attribution",
    (
        Entry("attention_rollout", "saliency:attention_rollout", "Attention rollout of a vision transformer (Abnar & Zuidema 2020)"),
        Entry("contrastive_excitation", "excitation:contrastive_excitation", "Contrastive excitation backpropagation (Zhang et al. 2016)"),
        Entry("deconvnet", "saliency:deconvnet", "Deconvolutional network (Zeiler & Fergus 2014)"),
        Entry("excitation", "excitation:excitation", "Excitation backpropagation (Zhang et al. 2016)", ("ebp",)),
        Entry("extremal", "perturbation:extremal", "Extremal perturbations (Fong et al. 2019)"),
        Entry("grad_cam", "saliency:grad_cam", "Grad-CAM (Selvaraju et al. 2017)", ("gradcam",)),
        Entry("gradient", "saliency:gradient", "Gradient of the target (Simonyan et al. 2014)"),
        Entry("gradient_times_input", "saliency:gradient_times_input", "Gradient times input"),
        Entry("guided", "saliency:guided", "Guided backpropagation (Springenberg et al. 2015)"),
        Entry("integrated_gradients", "integrated:integrated_gradients", "Integrated gradients (Sundararajan et al. 2017)", ("ig",)),
        Entry("linear_approximation", "saliency:linear_approximation", "Gradient times activation of a layer, summed over channels"),
        Entry(
            "meaningful_perturbation",
            "perturbation:meaningful_perturbation",
            "Smallest deletion that lowers the score (Fong & Vedaldi 2017)",
        ),
        Entry("occlusion", "saliency:occlusion", "Occlusion by a sliding window (Zeiler & Fergus 2014)"),
        Entry("rise", "saliency:rise", "Randomised input sampling (Petsiuk et al. 2018)"),
        Entry("smooth_grad", "saliency:smooth_grad", "SmoothGrad (Smilkov et al. 2017)", ("smoothgrad",)),
        Entry("var_grad", "saliency:var_grad", "VarGrad: variance of gradients in noise (Adebayo et al. 2018)", ("vargrad",)),
    ),
    default="grad_cam",
)
