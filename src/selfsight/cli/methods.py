"""``selfsight methods``."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from selfsight.cli.options import emit, parse

__all__ = ["run"]


@dataclass(frozen=True)
class MethodsOptions:
    """Options of ``methods``."""

    json: Annotated[bool, tyro.conf.arg(help="print one JSON array on standard output")] = False


def run(arguments: list[str]) -> int:
    """Print the list of methods; returns the exit code."""
    options = parse(MethodsOptions, arguments, "methods", "List the methods.")
    from rich.console import Console
    from rich.table import Table

    from selfsight.methods.table import METHODS, method_class

    cards = {name: method_class(name).card for name in METHODS}
    if options.json:
        emit(
            [
                {"name": name, "family": card.family, "kind": card.kind, "paper": card.paper, "decks": list(card.decks)}
                for name, card in cards.items()
            ]
        )
        return 0
    table = Table(box=None, header_style="bold")
    for heading in ("method", "family", "kind", "paper", "decks", "probe"):
        table.add_column(heading, no_wrap=True)
    for name, card in cards.items():
        table.add_row(name, card.family, card.kind, card.paper, " ".join(card.decks), card.probe)
    Console(width=max(Console().width, 110)).print(table)
    return 0
