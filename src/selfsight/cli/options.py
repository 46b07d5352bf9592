"""Command-line options from signatures and docstrings: the signature is the configuration."""

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, field, fields, is_dataclass, make_dataclass
from typing import Annotated, Any, TypeVar, cast

import tyro

from selfsight.core.bounds import check_numbers
from selfsight.core.json_text import json_text
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
    """Description of each name in the ``Args:`` or ``Attributes:`` section of a docstring.

    Several names can share a line: ``first, second: description of both``, or ``first, second: of one; of the other``.
    """
    section = re.split(r"^\s*(?:Args|Attributes):\s*$", inspect.cleandoc(text or ""), maxsplit=1, flags=re.MULTILINE)
    descriptions: dict[str, str] = {}
    names = ""
    for line in section[1].splitlines() if len(section) > 1 else ():
        entry = re.match(r"^    (\w[\w, ]*): (.*)$", line)
        if entry:
            names = entry[1]
            descriptions[names] = entry[2]
        elif line.startswith("        ") and names:
            descriptions[names] += f" {line.strip()}"
        elif line.strip():
            break
    return {name: part for names, text in descriptions.items() for name, part in _shared(names.split(", "), text)}


def _shared(names: list[str], text: str) -> Iterator[tuple[str, str]]:
    """Each name with its own part of the text, or with all of it if there are fewer parts than names."""
    parts = text.removesuffix(".").split("; ")
    separate = len(names) > 1 and len(parts) == len(names)
    yield from zip(names, [f"{part}." for part in parts] if separate else [text] * len(names), strict=True)


def with_positional(cls: type, positional: str, extra: Mapping[str, tuple[Any, Any, str]], *, optional: bool = False) -> type:
    """A dataclass for the command line: the fields of ``cls`` that can be typed, one of them positional, and additional ones.

    Args:
        cls: the dataclass.
        positional: name of the positional field.
        extra: type, default and description of additional fields by name.
        optional: whether the positional field can be omitted.
    """
    descriptions = explained(cls.__doc__)
    members: list[Any] = []
    for item in fields(cls):
        if "Mapping" in str(item.type):
            continue
        kind = Annotated[item.type, tyro.conf.arg(help=descriptions.get(item.name, ""))]
        if item.name == positional:
            kind = tyro.conf.Positional[Annotated[str | None if optional else str, tyro.conf.arg(help=descriptions.get(item.name, ""))]]
            members.append((item.name, kind, field(default=None)) if optional else (item.name, kind))
        else:
            members.append((item.name, kind, field(default=None if item.default is MISSING else item.default)))
    for name, (kind, default, text) in extra.items():
        members.append((name, Annotated[kind, tyro.conf.arg(help=text)], field(default=default)))
    return make_dataclass(cls.__name__, members, frozen=True)


RENAMED = {
    "discover": {
        "--kinds": "--classes", "--least": "--min-confidence", "--within": "--foreground", "--floors": "--baselines",
        "--no-floors": "--no-baselines",
    },
    "explain invert": {"--by": "--method", "--like": "--data"},
    "explain maximise": {"--writing": "--parameterisation", "--diverse": "--diversity", "--like": "--data"},
    "explain compare": {"--like": "--data"},
    "explain diagnose": {"--enough": "--required-fraction"},
    "explore": {"--again": "--rebuild"},
    "learn": {"--again": "--repeat"},
    "measure": {"--floors": "--baselines", "--no-floors": "--no-baselines"},
}  # fmt: skip
"""Old names of options by verb, with their current names; they work for one release."""


def current_options(arguments: Sequence[str], verb: str) -> list[str]:
    """Replace old names of options, with a warning on standard error.

    Args:
        arguments: the command line of the verb.
        verb: name of the verb.
    """
    renamed, current = RENAMED.get(verb, {}), list[str]()
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name in renamed:
            sys.stderr.write(f"warning: {name} is now called {renamed[name]}; the old name will be removed in the next release\n")
        current.append(f"{renamed.get(name, name)}{equals}{value}")
    return current


def parse(kind: type[T] | Callable[..., T], arguments: Sequence[str], verb: str, words: str) -> T:
    """Parse the arguments of a verb; an invalid argument ends the program with exit code 2.

    Args:
        kind: dataclass of the options.
        arguments: the command line of the verb.
        verb: name of the verb.
        words: description for the help text.

    Raises:
        UsageError: a number is outside of its range.
    """
    args = current_options(arguments, verb)
    options = tyro.cli(kind, prog=f"selfsight {verb}", description=words, args=args, config=(tyro.conf.AvoidSubcommands,))
    check_numbers(vars(options))
    return options


def method_options(
    kind: type, defaults: Mapping[str, Any], training: Any, arguments: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parse a method's options and training recipe.

    Args:
        kind: the method class.
        defaults: default values of its options.
        training: default training recipe.
        arguments: the arguments to parse.

    Returns:
        The typed options and the typed fields of the recipe, also where they equal the default.

    Raises:
        SystemExit: an argument is invalid (2), or help was requested (0).
    """
    descriptions = explained(kind.__doc__)
    members: list[Any] = []
    for name, parameter in inspect.signature(kind).parameters.items():
        if name == "backbone":
            continue
        default = defaults.get(name, parameter.default)
        members.append((name, Annotated[_typed(default), tyro.conf.arg(help=descriptions.get(name, ""))], field(default=default)))
    members.append(("training", type(training), field(default=training)))
    options = make_dataclass(f"{kind.__name__}Options", members, frozen=True)
    parsed = cast(Any, tyro.cli)(
        options,
        prog=f"selfsight learn --method {kind.__module__.rsplit('.', 1)[-1]}",
        description=inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0],
        args=list(arguments),
        default=options(),
        config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagConversionOff),
    )
    typed = {word.lstrip("-").partition("=")[0].replace("-", "_") for word in arguments if word.startswith("--")}
    names = {name.partition(".")[0] for name in typed}
    method_values = {item.name: getattr(parsed, item.name) for item in fields(options) if item.name in names and item.name != "training"}
    return method_values, {item.name: getattr(parsed.training, item.name) for item in fields(training) if f"training.{item.name}" in typed}


def _typed(default: Any) -> Any:
    if isinstance(default, Constant | Cosine | Warmup | Steps):
        return TypedSchedule
    return type(default) if is_dataclass(default) or default is not None else str | None


def emit(content: object) -> None:
    """Print one JSON object on standard output."""
    sys.stdout.write(json_text(content) + "\n")
