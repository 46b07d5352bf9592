"""Tables of entries that are selected by name. Nothing is imported until an entry is loaded, so help and completion need no torch."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Generic, TypeVar, cast

from selfsight.core.names import look_up

__all__ = ["Entry", "Registry"]

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """One row of a registry.

    Attributes:
        name: what users type.
        target: location as ``module:attribute`` below the registry's package.
        summary: one line for help texts and tables.
        aliases: alternative names.
        needs: required annotations of the data, such as ``labels``, ``masks`` or ``boxes``.
        model_free: whether it uses pixels only and no representation.
        baseline: whether it is a baseline for the other entries.
        lower: names of its scores of which lower is better; ``*``: all.
        traits: further properties, described at the registry.
        choices: registry of its ``method`` option, for entries with several methods.
    """

    name: str
    target: str
    summary: str
    aliases: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    model_free: bool = False
    baseline: bool = False
    lower: tuple[str, ...] = ()
    traits: tuple[str, ...] = ()
    choices: "Registry[Any] | None" = None


class Registry(Mapping[str, Entry], Generic[T]):
    """Entries by name, in the given order.

    Args:
        kind: what the entries are, in singular, for messages: ``localiser``.
        package: package that targets are relative to.
        entries: the rows.
        default: name of the default entry; the first by default.
        remedy: advice if no name is similar to what was typed; by default all names.
    """

    def __init__(self, kind: str, package: str, entries: tuple[Entry, ...], *, default: str = "", remedy: str = "") -> None:
        self.kind, self.package, self.remedy = kind, package, remedy
        self.entries = {entry.name: entry for entry in entries}
        self.default = default or entries[0].name

    def __getitem__(self, name: str) -> Entry:
        return self.entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def resolve(self, name: str) -> Entry:
        """The entry of a name or alias.

        Raises:
            UsageError: there is none; the message suggests the most similar name.
        """
        aliases = {alias: entry.name for entry in self.entries.values() for alias in entry.aliases}
        return self.entries[aliases.get(look_up(self.kind, name, (*self.entries, *aliases), self.remedy), name)]

    def load(self, name: str) -> T:
        """Import and return the target of a name or alias.

        Raises:
            UsageError: there is none.
        """
        entry = self.resolve(name)
        module, _, attribute = entry.target.partition(":")
        return cast("T", getattr(import_module(f"{self.package}.{module}"), attribute))

    def names(self) -> tuple[str, ...]:
        """All accepted names: the default first, then the others in order, then aliases."""
        others = [name for name in self.entries if name != self.default]
        return (self.default, *others, *(alias for entry in self.entries.values() for alias in entry.aliases))

    def baselines(self) -> tuple[str, ...]:
        """Names of the baselines."""
        return tuple(name for name, entry in self.entries.items() if entry.baseline)

    def model_free(self) -> tuple[str, ...]:
        """Names of the entries that use no representation."""
        return tuple(name for name, entry in self.entries.items() if entry.model_free)

    def having(self, trait: str) -> tuple[str, ...]:
        """Names of the entries with a trait."""
        return tuple(name for name, entry in self.entries.items() if trait in entry.traits)

    def lower_is_better(self, name: str, score: str) -> bool:
        """Direction of a score of an entry.

        Args:
            name: name of the entry; unknown names have scores of which higher is better.
            score: name of the score.
        """
        lower = self.entries[name].lower if name in self.entries else ()
        return score in lower or "*" in lower

    def listing(self) -> str:
        """All names for a help text: the default first, aliases in brackets."""
        ordered = (self.entries[self.default], *(entry for name, entry in self.entries.items() if name != self.default))
        return ", ".join(f"{entry.name} ({', '.join(entry.aliases)})" if entry.aliases else entry.name for entry in ordered)
