"""Detection of representational collapse."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from selfsight.core.errors import Collapsed

__all__ = ["RULES", "Health", "Rule"]

SILENT = 0.05
"""Mutual information of image and prototype in nats below which targets are uninformative; methods that learn reach 0.2 and more."""


@dataclass(frozen=True)
class Rule:
    """A type of collapse.

    Attributes:
        name: name of the rule.
        words: what it means.
        holds: whether a record fulfils it.
        patience: number of consecutive records that have to fulfil it.
        after: first step at which it is checked, and not before the end of the warm-up; earlier the network may not have learnt anything.
    """

    name: str
    words: str
    holds: Callable[[dict[str, Any]], bool]
    patience: int = 5
    after: int = 0


def _below(name: str, limit: float) -> Callable[[dict[str, Any]], bool]:
    return lambda record: name in record and record[name] < limit


def _one_dominates(record: dict[str, Any]) -> bool:
    return record.get("largest_share", 0.0) > 0.9


def _is_uninformative(record: dict[str, Any]) -> bool:
    """Whether the target does not depend on the image.

    Classifiers of relabelled clusters (no ``chance``) are in this state in each epoch and exempt.
    """
    return record.get("chance", 0.0) > 0 and record.get("assignment_information", SILENT) < SILENT


RULES = (
    Rule("spread", "all images have nearly the same embedding (spread below 0.1)", _below("spread", 0.1)),
    Rule("rank", "all embeddings lie on one line (effective rank below 1.5)", _below("effective_rank", 1.5)),
    Rule("one cluster", "one prototype takes nearly every image (largest share above 0.9)", _one_dominates),
    Rule(
        "chance",
        "the target is the same for every image, so the loss does not decrease (it stays near ln K; information below 0.05 nats)",
        _is_uninformative,
        8,
        150,
    ),
)


@dataclass
class Health:
    """Checks the records of a run for collapse and reports it once.

    Args:
        progress: called with a message.
        fail: raise ``Collapsed`` instead of continuing.
    """

    progress: Callable[[str], None]
    fail: bool = False
    verdict: str = ""
    since: int = -1
    _streak: dict[str, int] = field(default_factory=dict)
    _rate: float = 0.0

    def on_record(self, record: dict[str, Any], timing: dict[str, Any]) -> None:  # noqa: ARG002
        """Check a record.

        Args:
            record: record of a step.
            timing: unused.

        Raises:
            Collapsed: the run has collapsed and ``fail`` is set.
        """
        warming, self._rate = record.get("rate", 0.0) > self._rate, record.get("rate", 0.0)
        for rule in RULES:
            early = rule.after > 0 and (warming or record["step"] < rule.after)
            fulfilled = rule.holds(record) and not early
            self._streak[rule.name] = self._streak.get(rule.name, 0) + 1 if fulfilled else 0
            if self._streak[rule.name] >= rule.patience and not self.verdict:
                self.verdict, self.since = f"{rule.name}: {rule.words}", record["step"]
                self.progress(f"collapsed at step {record['step']}: {rule.words}")
                if self.fail:
                    raise Collapsed(
                        f"The representation has collapsed: {rule.words}.",
                        "A part of the method that prevents collapse may be off, or the learning rate too high; see docs/look-up/health.md.",
                    )
