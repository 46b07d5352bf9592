"""Probes of features by name. Torch-free."""

from typing import TYPE_CHECKING

from selfsight.core.registry import Entry, Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from selfsight.measure.results import Features, Scores

__all__ = ["LAYER_PROBES", "PROBES"]

PROBES: Registry["Callable[[Features], Scores]"] = Registry(
    "probe",
    "selfsight.measure.probes",
    (
        Entry("cluster", "cluster:cluster", "k-means clusters against classes: ACC, NMI, AMI, ARI", needs=("labels",)),
        Entry("geometry", "geometry:geometry", "alignment, uniformity, effective rank", lower=("alignment", "uniformity")),
        Entry("knn", "knn:knn", "k-nearest-neighbour classification", needs=("labels",), traits=("percent",)),
        Entry("linear", "linear:linear", "linear classification", needs=("labels",), traits=("percent",)),
        Entry("retrieve", "retrieve:retrieve", "retrieval of images of the same class: mAP, recall", needs=("labels",)),
        Entry("reverse", "reverse:reverse", "how well annotated concepts predict clusters of features", needs=("labels or attributes",)),
        Entry("svm", "svm:svm", "linear SVM with few labels", needs=("labels",), traits=("percent",)),
    ),
)
"""Measures of the output features; all that the data allow are taken by default. Trait ``percent``: scores are written in percent."""

LAYER_PROBES: Registry["Callable[..., Scores]"] = Registry(
    "layer probe",
    "selfsight.measure.probes",
    (Entry("layers", "layers:layers", "a linear probe of every layer", needs=("labels",), traits=("percent",)),),
)
"""Measures of inner layers. Taken only by name, as each layer needs a probe of its own; raw pixels have no layers."""
