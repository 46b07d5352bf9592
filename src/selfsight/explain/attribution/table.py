"""The table of attribution methods, in strings, so that a command line can offer them without torch."""

from collections.abc import Callable
from importlib import import_module

from selfsight.core.errors import UsageError

__all__ = ["ATTRIBUTIONS", "attribution"]

ATTRIBUTIONS = {
    "attention_rollout": "saliency:attention_rollout",
    "contrastive_excitation": "excitation:contrastive_excitation",
    "deconvnet": "saliency:deconvnet",
    "excitation": "excitation:excitation",
    "extremal": "perturbation:extremal",
    "grad_cam": "saliency:grad_cam",
    "gradient": "saliency:gradient",
    "gradient_times_input": "saliency:gradient_times_input",
    "guided": "saliency:guided",
    "integrated_gradients": "saliency:integrated_gradients",
    "linear_approximation": "saliency:linear_approximation",
    "meaningful_perturbation": "perturbation:meaningful_perturbation",
    "occlusion": "saliency:occlusion",
    "rise": "saliency:rise",
    "smooth_grad": "saliency:smooth_grad",
    "var_grad": "saliency:var_grad",
}
"""Where each is, below ``selfsight.explain``."""
ALIASES = {"gradcam": "grad_cam", "smoothgrad": "smooth_grad", "vargrad": "var_grad", "ig": "integrated_gradients", "ebp": "excitation"}


def attribution(name: str) -> Callable[..., object]:
    """A method by its name.

    Raises:
        UsageError: there is none.
    """
    name = ALIASES.get(name, name)
    if name not in ATTRIBUTIONS:
        raise UsageError(f"There is no attribution method {name!r}.", f"There are: {', '.join(ATTRIBUTIONS)}.")
    module, _, function = ATTRIBUTIONS[name].partition(":")
    return getattr(import_module(f"selfsight.explain.attribution.{module}"), function)
