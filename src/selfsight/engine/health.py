"""Collapse, by name."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from selfsight.core.errors import Collapsed

__all__ = ["RULES", "Health", "Rule"]


@dataclass(frozen=True)
class Rule:
    """A way to collapse: what is seen in a record, for how many records in a row, and what it means."""

    name: str
    words: str
    holds: Callable[[dict[str, Any]], bool]
    patience: int = 5
    after: int = 0


def _below(name: str, limit: float) -> Callable[[dict[str, Any]], bool]:
    return lambda record: name in record and record[name] < limit


def _one_takes_all(record: dict[str, Any]) -> bool:
    return record.get("largest_share", 0.0) > 0.9


def _pinned(record: dict[str, Any]) -> bool:
    """The loss is its value for a network that knows nothing, and so is the target: equal shares for all clusters, for every image."""
    if "chance" not in record or record["chance"] <= 0:
        return False
    loss_is_chance = abs(record["loss"] - record["chance"]) < 0.002 * record["chance"]
    return loss_is_chance and record.get("assignment_entropy", record["chance"]) > 0.99 * record["chance"]


RULES = (
    Rule("spread", "all images have nearly the same embedding (spread near zero)", _below("spread", 0.1)),
    Rule("rank", "all embeddings lie on one line (effective rank near one)", _below("effective_rank", 1.5)),
    Rule("one cluster", "one prototype takes nearly every image", _one_takes_all),
    Rule("chance", "the loss is pinned at ln K, that of a teacher who says nothing", _pinned, patience=8, after=150),
)


@dataclass
class Health:
    """Listens to the records of a run and names a collapse, once.

    Args:
        say: called with a plain sentence.
        fail: raise ``Collapsed`` instead of going on.
    """

    say: Callable[[str], None]
    fail: bool = False
    verdict: str = ""
    since: int = -1
    _streak: dict[str, int] = field(default_factory=dict)

    def heard(self, record: dict[str, Any], timing: dict[str, Any]) -> None:  # noqa: ARG002
        """Judge a record.

        Raises:
            Collapsed: the run has collapsed and was asked to fail then.
        """
        for rule in RULES:
            held = record["step"] >= rule.after and rule.holds(record)
            self._streak[rule.name] = self._streak.get(rule.name, 0) + 1 if held else 0
            if self._streak[rule.name] >= rule.patience and not self.verdict:
                self.verdict, self.since = f"{rule.name}: {rule.words}", record["step"]
                self.say(f"collapsed at step {record['step']}: {rule.words}")
                if self.fail:
                    raise Collapsed(
                        f"The representation has collapsed: {rule.words}.",
                        "A guard of the method may be off, or the learning rate too high; docs/look-up/health.md explains each rule.",
                    )
