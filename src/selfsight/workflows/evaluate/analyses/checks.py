"""Requirements of analyses on the data, and their untrained baseline."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from selfsight.core.errors import DataError, UsageError
from selfsight.core.names import look_up
from selfsight.core.representation import Representation
from selfsight.measure.analysis.inputs import AnalysisInput
from selfsight.measure.baselines import untrained_network
from selfsight.measure.results import Scores
from selfsight.workflows.evaluate.analyses.table import ANALYSES
from selfsight.workflows.evaluate.data import unlabelled_part

__all__ = ["check_analyses", "untrained_analysis"]


def check_analyses(names: Sequence[str], phi: Representation, inputs: AnalysisInput) -> None:
    """Check that the data and the networks meet the requirements of analyses, before one runs.

    Args:
        names: names of the analyses.
        phi: the representation.
        inputs: the data and the other networks.

    Raises:
        DataError: labels, masks or boxes are needed and missing.
        UsageError: one compares networks and there is only one, or a layer does not exist.
    """
    for name in names:
        _check(name, phi, inputs)


def _check(name: str, phi: Representation, inputs: AnalysisInput) -> None:
    needs = ANALYSES.resolve(name).needs
    if "labels" in needs and inputs.labels.train is None:
        raise DataError(
            f"The measure {name} needs labels, which {unlabelled_part(inputs.train, inputs.test)} lack.", "Use labelled --train and --test."
        )
    truth = inputs.test.truth(np.arange(min(len(inputs.test), 1)))
    for kind, annotation in (("masks", truth.masks), ("boxes", truth.boxes)):
        if kind in needs and annotation is None:
            raise DataError(
                f"The measure {name} needs {kind} of the test images, and there are none.",
                f"Use a world as --test, or --truth with {kind}.",
            )
    if "others" in needs and not inputs.others:
        raise UsageError(f"The measure {name} compares networks, and there is only one.", "Add another: selfsight measure RUN RUN2 …")
    for layer in inputs.layers:
        look_up("layer", layer, phi.layers)


def untrained_analysis(name: str, phi: Representation, inputs: AnalysisInput, seed: int) -> Scores:
    """The baseline: the same analysis of a network with random weights and batch statistics of training images.

    Args:
        name: name of the analysis.
        phi: the representation.
        inputs: the data and the other networks.
        seed: seed of the weights.

    Raises:
        UsageError: an architecture cannot be rebuilt by name.
    """
    analysis = ANALYSES.load(name)
    if "others" in ANALYSES.resolve(name).needs:
        others = {other: untrained_network(network, inputs.train, seed=seed) for other, network in inputs.others.items()}
        return analysis.measure(phi, replace(inputs, others=others))
    return analysis.measure(untrained_network(phi, inputs.train, seed=seed), inputs)
