"""Discoveries beside what finds as much without learning: the untrained network, colours alone, the middle of the picture."""

from functools import partial
from typing import Any

from selfsight.backbones.loading import untrained_twin
from selfsight.core.representation import Representation
from selfsight.core.say import Say, quiet
from selfsight.data.source import Source
from selfsight.discover.found import Found, find_objects
from selfsight.discover.localise import ALIASES, BLIND
from selfsight.discover.looked import Look
from selfsight.measure.overlap import judge_boxes
from selfsight.measure.scores import Score

__all__ = ["discover_objects"]


def discover_objects(
    phi: Representation,
    source: Source,
    method: str = "cut",
    *,
    look: Look | None = None,
    floors: bool = True,
    least: float = 0.05,
    say: Say = quiet,
    **options: Any,
) -> tuple[Found, dict[str, Score]]:
    """Objects of a data set's pictures, and CorLoc beside its floors where true boxes or masks are known.

    Args:
        phi: the representation.
        source: the data set.
        method: a name of ``discover.localise.LOCALISERS``.
        look: at which scale, and which features.
        floors: judge the untrained network and what needs no network too.
        least: how sure a region has to be, from 0 to 1.
        say: called with how far it is.
        options: of the localiser.

    Returns:
        What was found; CorLoc of the method under its own name, of ``untrained`` with the same method, and of what is blind.
    """
    found = find_objects(phi, source, method, look=look, least=least, say=say, **options)
    judged = _judged(found, source)
    if not judged or not floors:
        return found, {method: judged["corloc"]} if judged else {}
    scores = {method: judged["corloc"]}
    if ALIASES.get(method, method) not in BLIND and phi.spec:
        say("floor: untrained")
        plain = find_objects(untrained_twin(phi, 0), source, method, look=look, least=least, **options)
        scores["untrained"] = _judged(plain, source)["corloc"]
    for name in BLIND:
        if name != method:
            scores[name] = _judged(find_objects(phi, source, name, look=look), source)["corloc"]
    return found, scores


def _judged(found: Found, source: Source) -> dict[str, Score]:
    return judge_boxes(partial(found.boxes, read=True), source)
