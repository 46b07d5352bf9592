"""Options of runs whose ``config.json`` names only those that differ from the defaults: it then means the defaults of that time."""

from collections.abc import Mapping
from dataclasses import replace
from inspect import Parameter, signature
from typing import Any

from selfsight.core.schedule import Warmup
from selfsight.data.views.image.masks import Blocks
from selfsight.methods.table import METHODS, method_class

__all__ = ["complete_options", "defaults_of"]

FORMER: dict[str, dict[str, Any]] = {
    "byol": {"scale": 1.0},
    "dino": {"rest": 0.01},
    "dinov2": {"distance": 0.05, "teacher_temperature": Warmup(0.04, 0.07, until=0.1)},
    "ibot": {"rest": 0.01, "teacher_temperature": Warmup(0.04, 0.07, until=0.1)},
    "simclr": {"scale": 1.0},
    "simsiam": {"scale": 1.0},
    "swav": {"queue_from": 0.15, "rest": 0.01},
    "vicreg": {"halved": False},
}
"""Defaults of version 0.1 that have changed since, as today's options express them."""
FORMER_VIEWS = {
    "deepcluster_v2": "dino", "dinov2": "dino", "ibot": "dino", "lejepa": "dino", "sela_v2": "dino", "swav": "dino",
    "moco": "simclr", "pcl": "simclr", "simsiam": "simclr",
}  # fmt: skip
"""Methods that took the default views of another one in version 0.1."""
FORMER_MASK = Blocks(low=0.1, high=0.5, smallest=4, aspect=0.3, p=0.5)


def defaults_of(method: str) -> dict[str, Any]:
    """Today's defaults of a method's options; options without a default are not among them.

    Args:
        method: name of the method.
    """
    parameters = signature(method_class(method)).parameters.items()
    return {name: item.default for name, item in parameters if item.default is not Parameter.empty}


def complete_options(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a saved run: those that its configuration does not name have the defaults of version 0.1.

    Args:
        method: name of the method.
        options: the options in the run's configuration; runs of later versions name all of them.
    """
    defaults, name = defaults_of(method), METHODS.resolve(method).name
    if defaults.keys() <= options.keys():
        return dict(options)
    former = dict(FORMER.get(name, {}))
    if name in FORMER_VIEWS:
        views = defaults_of(FORMER_VIEWS[name])["recipe"]
        former["recipe"] = replace(views, mask=FORMER_MASK) if name in ("ibot", "dinov2") else views
    given = dict(options)
    if name == "dinov2" and "distance" in given:
        given["distance"] /= 2  # the term was a mean over the large views, and is their sum
    return defaults | former | given
