"""Whether the data allow an analysis, and its untrained baseline."""

from dataclasses import replace

import numpy as np

from selfsight.backbones.loading import untrained_twin
from selfsight.core.clock import key
from selfsight.core.errors import DataError, UsageError
from selfsight.core.names import look_up
from selfsight.core.representation import Representation
from selfsight.measure.analysis.inputs import AnalysisInput
from selfsight.measure.baselines import estimate_statistics
from selfsight.measure.results import Scores
from selfsight.workflows.evaluate.analyses.table import ANALYSES

__all__ = ["check_analysis", "untrained_analysis"]


def check_analysis(name: str, phi: Representation, asked: AnalysisInput) -> None:
    """Refuse what the data, or a single network, do not allow, before anything is measured.

    Raises:
        DataError: labels or masks are needed, and there are none.
        UsageError: it compares networks and there is one, or there is no such layer.
    """
    needs = ANALYSES.resolve(name).needs
    if "labels" in needs and asked.labels.train is None:
        raise DataError(f"The measure {name} needs labels, and the data have none.", "Give labelled --train and --test.")
    truth = asked.test.truth(np.arange(min(len(asked.test), 1)))
    for what, there in (("masks", truth.masks), ("boxes", truth.boxes)):
        if what in needs and there is None:
            raise DataError(
                f"The measure {name} needs {what} of the test pictures, and there are none.",
                f"Give a world as --test, or --truth with {what}.",
            )
    if "others" in needs and not asked.others:
        raise UsageError(f"The measure {name} joins two networks, and there is one.", "Name another: selfsight measure RUN RUN2 …")
    for layer in asked.layers:
        look_up("layer", layer, phi.layers)


def untrained_analysis(name: str, phi: Representation, asked: AnalysisInput, seed: int) -> Scores:
    """The floor: the same of a network with random weights and the batch statistics of training pictures.

    Raises:
        UsageError: an architecture has no name to build it from.
    """

    def twin(of: Representation) -> Representation:
        found = untrained_twin(of, key(seed, 0xF1008))
        estimate_statistics(found, asked.train, seed=seed)
        return found

    analysis = ANALYSES.load(name)
    if "others" in ANALYSES.resolve(name).needs:
        return analysis.measure(phi, replace(asked, others={other: twin(first) for other, first in asked.others.items()}))
    return analysis.measure(twin(phi), asked)
