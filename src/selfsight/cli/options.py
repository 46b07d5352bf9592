"""From signatures and docstrings to options: the signature is the configuration."""

import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, field, fields, is_dataclass, make_dataclass
from typing import Annotated, Any, TypeVar, cast

import tyro

from selfsight.core.schedule import Constant, Cosine, Steps, Warmup, parse_schedule

__all__ = ["RENAMED", "DeviceArg", "TypedSchedule", "current_options", "emit", "method_options", "parse", "with_positional"]

T = TypeVar("T")


TypedSchedule = Annotated[
    Constant | Cosine | Warmup | Steps,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="A|A..B",
        instance_from_str=lambda words: parse_schedule(words[0]),
        is_instance=lambda value: isinstance(value, Constant | Cosine | Warmup | Steps),
        str_from_instance=lambda value: [str(value)],
    ),
]
"""A schedule as it is typed: ``0.99``, or ``0.996..1.0`` for a cosine."""

DeviceArg = Annotated[str, tyro.conf.arg(help="auto, cpu, cuda or mps")]


def explained(text: str | None) -> dict[str, str]:
    """The words on each name in the ``Args:`` or ``Attributes:`` section of a docstring.

    Several names share a line: ``first, second: words on both``, or ``first, second: words on one; words on the other``.
    """
    section = re.split(r"^\s*(?:Args|Attributes):\s*$", inspect.cleandoc(text or ""), maxsplit=1, flags=re.MULTILINE)
    found: dict[str, str] = {}
    names = ""
    for line in section[1].splitlines() if len(section) > 1 else ():
        entry = re.match(r"^    (\w[\w, ]*): (.*)$", line)
        if entry:
            names = entry[1]
            found[names] = entry[2]
        elif line.startswith("        ") and names:
            found[names] += f" {line.strip()}"
        elif line.strip():
            break
    return {name: part for names, words in found.items() for name, part in _shared(names.split(", "), words)}


def _shared(names: list[str], words: str) -> Iterator[tuple[str, str]]:
    """Each name with its own part of the words, or with all of them if there are not as many parts as names."""
    parts = words.removesuffix(".").split("; ")
    apart = len(names) > 1 and len(parts) == len(names)
    yield from zip(names, [f"{part}." for part in parts] if apart else [words] * len(names), strict=True)


def with_positional(cls: type, positional: str, extra: Mapping[str, tuple[Any, Any, str]], *, optional: bool = False) -> type:
    """A dataclass for the command line: the fields of ``cls`` that can be typed, one of them positional, and some more.

    ``extra`` gives for each further name its type, default and words.
    """
    words = explained(cls.__doc__)
    members: list[Any] = []
    for item in fields(cls):
        if "Mapping" in str(item.type):
            continue
        kind = Annotated[item.type, tyro.conf.arg(help=words.get(item.name, ""))]
        if item.name == positional:
            kind = tyro.conf.Positional[Annotated[str | None if optional else str, tyro.conf.arg(help=words.get(item.name, ""))]]
            members.append((item.name, kind, field(default=None)) if optional else (item.name, kind))
        else:
            members.append((item.name, kind, field(default=None if item.default is MISSING else item.default)))
    for name, (kind, default, text) in extra.items():
        members.append((name, Annotated[kind, tyro.conf.arg(help=text)], field(default=default)))
    return make_dataclass(cls.__name__, members, frozen=True)


RENAMED = {"discover": {"--kinds": "--classes"}}
"""Options of version 0.1 by verb, and what they are called now; they work for one release."""


def current_options(arguments: Sequence[str], verb: str) -> list[str]:
    """The arguments with options of version 0.1 replaced by their present names, each with a warning on standard error."""
    renamed, found = RENAMED.get(verb, {}), list[str]()
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name in renamed:
            sys.stderr.write(f"warning: {name} is now called {renamed[name]}; the old name will be removed in the next release\n")
        found.append(f"{renamed.get(name, name)}{equals}{value}")
    return found


def parse(kind: type[T] | Callable[..., T], arguments: Sequence[str], verb: str, words: str) -> T:
    """Read the arguments of a verb; a wrong one ends the program with exit code 2."""
    args = current_options(arguments, verb)
    return tyro.cli(kind, prog=f"selfsight {verb}", description=words, args=args, config=(tyro.conf.AvoidSubcommands,))


def method_options(
    kind: type, defaults: Mapping[str, Any], training: Any, arguments: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A method's own options and training recipe from the command line: what was typed, whether or not it equals a default.

    Raises:
        SystemExit: an argument is wrong (2), or help was asked for (0).
    """
    words = explained(kind.__doc__)
    members: list[Any] = []
    for name, parameter in inspect.signature(kind).parameters.items():
        if name == "backbone":
            continue
        default = defaults.get(name, parameter.default)
        members.append((name, Annotated[_typed(default), tyro.conf.arg(help=words.get(name, ""))], field(default=default)))
    members.append(("training", type(training), field(default=training)))
    options = make_dataclass(f"{kind.__name__}Options", members, frozen=True)
    read = cast(Any, tyro.cli)(
        options,
        prog=f"selfsight learn --method {kind.__module__.rsplit('.', 1)[-1]}",
        description=inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0],
        args=list(arguments),
        default=options(),
        config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff),
    )
    typed = {word.lstrip("-").partition("=")[0].replace("-", "_") for word in arguments if word.startswith("--")}
    names = {name.partition(".")[0] for name in typed}
    own = {item.name: getattr(read, item.name) for item in fields(options) if item.name in names and item.name != "training"}
    return own, {item.name: getattr(read.training, item.name) for item in fields(training) if f"training.{item.name}" in typed}


def _typed(default: Any) -> Any:
    if isinstance(default, Constant | Cosine | Warmup | Steps):
        return TypedSchedule
    return type(default) if is_dataclass(default) or default is not None else str | None


def emit(content: object) -> None:
    """One JSON object on standard output."""
    sys.stdout.write(json.dumps(content) + "\n")
