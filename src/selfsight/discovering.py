"""Discoveries beside what finds as much without learning: the untrained network, colours alone, the middle of the picture."""

from functools import partial
from typing import Any

import numpy as np

from selfsight.core.representation import Representation
from selfsight.core.say import Say, quiet
from selfsight.data.source import Source
from selfsight.discover.found import Found, find_objects
from selfsight.discover.localise import ALIASES, BLIND
from selfsight.discover.looked import Look
from selfsight.discover.segment import Segmented, segment_pictures
from selfsight.discover.segmenters import COLOURS_ALONE
from selfsight.measure.floors import untrained_networks
from selfsight.measure.overlap import judge_boxes, judge_kinds
from selfsight.measure.scores import Score

__all__ = ["discover_objects", "discover_segments"]


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
        What was found; CorLoc of the method under its own name, of ``untrained`` with the same method (the stronger of its plain
        forms, the mean of three seeds), and of what is blind.
    """
    found = find_objects(phi, source, method, look=look, least=least, say=say, **options)
    judged = _judged(found, source)
    if judged is None:
        return found, {}
    scores = {method: judged}
    if floors and ALIASES.get(method, method) not in BLIND:
        untrained = _untrained(phi, source, method, say, look=look, least=least, **options)
        scores |= {"untrained": untrained} if untrained else {}
    for name in BLIND if floors else ():
        blind = _judged(find_objects(phi, source, name, look=look), source)
        scores |= {name: blind} if blind and name != method else {}
    return found, scores


def _judged(found: Found, source: Source) -> Score | None:
    return judge_boxes(partial(found.boxes, read=True), source)


def _untrained(phi: Representation, source: Source, method: str, say: Say, **how: Any) -> Score | None:
    """The strongest plain form of the untrained network: the mean over its seeds, from the lowest bound to the highest."""
    if not phi.spec:
        say(f"floor: {phi.name} cannot be built again without its weights")
        return None
    forms: dict[str, list[Score]] = {}
    for form, seed, network in untrained_networks(phi, source):
        say(f"floor: untrained, {form}, seed {seed}")
        score = _judged(find_objects(network(), source, method, **how), source)
        forms.setdefault(form, []).extend([score] if score else [])
    return _strongest(forms)


def _strongest(forms: dict[str, list[Score]]) -> Score:
    """Of the form with the highest mean over seeds: that mean, from the lowest bound to the highest."""
    seeds = max(forms.values(), key=lambda some: sum(score.value for score in some))
    return Score(sum(one.value for one in seeds) / len(seeds), min(one.low for one in seeds), max(one.high for one in seeds))


def discover_segments(
    phi: Representation,
    source: Source,
    method: str = "spectral",
    *,
    kinds: int | None = None,
    look: Look | None = None,
    floors: bool = True,
    say: Say = quiet,
    **options: Any,
) -> tuple[Segmented, dict[str, Score]]:
    """Kinds of things in a data set's pictures, and mean IoU beside its floors where the classes of pixels are known.

    Args:
        phi: the representation.
        source: the data set.
        method: a name of ``discover.segment.SEGMENTERS``, or ``iic``.
        kinds: how many without ground; as many as classes are known by default, else 10.
        look: at which scale, which features, how many eigenvectors.
        floors: judge the untrained network and colours alone too.
        say: called with how far it is.
        options: of ``segment_pictures``.
    """
    kinds = kinds or len(source.truth(np.arange(1)).classes) or 10
    found = segment_pictures(phi, source, method, kinds=kinds, look=look, say=say, **options)
    judged = judge_kinds(found.at, source, found.kinds, found.read)
    if judged is None:
        return found, {}
    scores = {method: judged}
    if floors and method != COLOURS_ALONE and phi.spec:
        scores["untrained"] = _untrained_kinds(phi, source, method, say, kinds=kinds, look=look, **options)
    if floors and method != COLOURS_ALONE:
        plain = segment_pictures(phi, source, COLOURS_ALONE, kinds=kinds, look=look)
        score = judge_kinds(plain.at, source, plain.kinds, plain.read)
        scores |= {COLOURS_ALONE: score} if score else {}
    return found, scores


def _untrained_kinds(phi: Representation, source: Source, method: str, say: Say, **how: Any) -> Score:
    forms: dict[str, list[Score]] = {}
    for form, seed, network in untrained_networks(phi, source):
        say(f"floor: untrained, {form}, seed {seed}")
        plain = segment_pictures(network(), source, method, **how)
        score = judge_kinds(plain.at, source, plain.kinds, plain.read)
        forms.setdefault(form, []).extend([score] if score else [])
    return _strongest(forms)
