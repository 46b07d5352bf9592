"""Collapse, by name."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from selfsight.core.errors import Collapsed

__all__ = ["RULES", "Health", "Rule"]

SILENT = 0.05
"""Mutual information of image and prototype, in nats, below which a target says nothing; methods that learn show 0.2 and more."""


@dataclass(frozen=True)
class Rule:
    """A way to collapse: what is seen in a record, for how many records in a row, and what it means.

    With ``after``, a rule waits for that step and for the end of the warm-up: until then a network may know nothing.
    """

    name: str
    words: str
    holds: Callable[[dict[str, Any]], bool]
    patience: int = 5
    after: int = 0


def _below(name: str, limit: float) -> Callable[[dict[str, Any]], bool]:
    return lambda record: name in record and record[name] < limit


def _one_takes_all(record: dict[str, Any]) -> bool:
    return record.get("largest_share", 0.0) > 0.9


def _says_nothing(record: dict[str, Any]) -> bool:
    """The target does not depend on the image. A classifier of relabelled clusters (no ``chance``) passes through this each epoch."""
    return record.get("chance", 0.0) > 0 and record.get("assignment_information", SILENT) < SILENT


RULES = (
    Rule("spread", "all images have nearly the same embedding (spread near zero)", _below("spread", 0.1)),
    Rule("rank", "all embeddings lie on one line (effective rank near one)", _below("effective_rank", 1.5)),
    Rule("one cluster", "one prototype takes nearly every image", _one_takes_all),
    Rule("chance", "the target is the same for every image, so that the loss stands still (at ln K or near it)", _says_nothing, 8, 150),
)


@dataclass
class Health:
    """Listens to the records of a run and names a collapse, once.

    Args:
        progress: called with a plain sentence.
        fail: raise ``Collapsed`` instead of going on.
    """

    progress: Callable[[str], None]
    fail: bool = False
    verdict: str = ""
    since: int = -1
    _streak: dict[str, int] = field(default_factory=dict)
    _rate: float = 0.0

    def on_record(self, record: dict[str, Any], timing: dict[str, Any]) -> None:  # noqa: ARG002
        """Judge a record.

        Raises:
            Collapsed: the run has collapsed and was asked to fail then.
        """
        warming, self._rate = record.get("rate", 0.0) > self._rate, record.get("rate", 0.0)
        for rule in RULES:
            early = rule.after > 0 and (warming or record["step"] < rule.after)
            held = rule.holds(record) and not early
            self._streak[rule.name] = self._streak.get(rule.name, 0) + 1 if held else 0
            if self._streak[rule.name] >= rule.patience and not self.verdict:
                self.verdict, self.since = f"{rule.name}: {rule.words}", record["step"]
                self.progress(f"collapsed at step {record['step']}: {rule.words}")
                if self.fail:
                    raise Collapsed(
                        f"The representation has collapsed: {rule.words}.",
                        "A guard of the method may be off, or the learning rate too high; docs/look-up/health.md explains each rule.",
                    )
