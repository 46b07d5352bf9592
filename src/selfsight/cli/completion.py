"""``selfsight completion``: shell completion of verbs, options and names."""

import io
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout, suppress
from importlib import import_module
from typing import Any

from selfsight.core.errors import UsageError
from selfsight.core.registry import Registry

__all__ = ["candidates", "run"]

SCRIPTS = {
    "bash": """_selfsight() {
    local words=("${COMP_WORDS[@]:1:COMP_CWORD-1}")
    COMPREPLY=($(compgen -W "$(selfsight completion candidates -- "${words[@]}" 2>/dev/null)" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _selfsight selfsight
""",
    "zsh": """#compdef selfsight
_selfsight() {
    local -a found
    found=(${(f)"$(selfsight completion candidates -- ${words[2,CURRENT-1]} 2>/dev/null)"})
    compadd -a found || _files
}
compdef _selfsight selfsight
""",
    "fish": """complete -c selfsight -a '(selfsight completion candidates -- (commandline -opc)[2..] 2>/dev/null)'
""",
}


def _registries(verb: str, option: str, words: Sequence[str]) -> Iterable[Registry[Any]]:
    """Registries with the names that an option accepts; imported only when needed."""
    if verb == "discover":
        from selfsight.workflows.discover.table import DISCOVERIES

        if option == "--what":
            return (DISCOVERIES,)
        what = words[words.index("--what") + 1] if "--what" in words[:-1] else DISCOVERIES.default
        choices = DISCOVERIES[what].choices if what in DISCOVERIES else None
        return (choices,) if option == "--method" and choices is not None else ()
    places = {
        ("learn", "--method"): ("methods.table:METHODS",),
        ("learn", "--backbone"): ("backbones.table:BACKBONES",),
        ("doctor", "--names"): ("backbones.table:BACKBONES",),
        ("explain", "--method"): ("explain.attribution.table:ATTRIBUTIONS",) if words[1:2] != ["invert"] else (),
        ("measure", "--probes"): (
            "measure.probes.table:PROBES",
            "measure.probes.table:LAYER_PROBES",
            "workflows.evaluate.analyses.table:ANALYSES",
        ),
    }
    found = [place.split(":") for place in places.get((verb, option), ())]
    return [getattr(import_module(f"selfsight.{module}"), name) for module, name in found]


def _options(arguments: list[str]) -> list[str]:
    """Options in the help text of a verb."""
    verb, *rest = arguments
    text = io.StringIO()
    with redirect_stdout(text), suppress(SystemExit):
        import_module(f"selfsight.cli.{verb}").run([*rest, "--help"])
    return sorted({*re.findall(r"(?<![\w-])--[a-z][a-z0-9.-]*", text.getvalue())})


def candidates(words: Sequence[str]) -> list[str]:
    """Possible next words of a command line: verbs, names of a registry, or options.

    Args:
        words: the complete words after ``selfsight``.

    Returns:
        Candidates; empty if only files are possible.
    """
    from selfsight.cli import VERBS

    if not words:
        return list(VERBS)
    if words[0] not in VERBS:
        return []
    if words[0] == "completion":
        return list(SCRIPTS)
    registries = _registries(words[0], words[-1], words) if words[-1].startswith("--") else ()
    names = [name for registry in registries for name in registry.names()]
    if names:
        return names
    if words[0] != "explain":
        return _options([words[0]])
    from selfsight.cli.explain import VERBS as EXPLANATIONS

    return list(EXPLANATIONS) if words[1:2] == [] or words[1] not in EXPLANATIONS else _options(["explain", words[1]])


def run(arguments: list[str]) -> int:
    """Print the script of a shell, or candidates; returns the exit code.

    Raises:
        UsageError: the shell is not supported.
    """
    if arguments[:2] == ["candidates", "--"]:
        sys.stdout.write("".join(f"{name}\n" for name in candidates(arguments[2:])))
        return 0
    if arguments[:1] in ([], ["-h"], ["--help"]):
        sys.stdout.write(
            "usage: selfsight completion bash|zsh|fish\n\nPrint a script that completes verbs, options and names on the tab key:\n"
            '  bash: eval "$(selfsight completion bash)"\n  zsh:  eval "$(selfsight completion zsh)"\n'
            "  fish: selfsight completion fish | source\n"
        )
        return 0
    if arguments[0] not in SCRIPTS:
        raise UsageError(f"There is no completion for {arguments[0]!r}.", f"Shells are: {', '.join(SCRIPTS)}.")
    sys.stdout.write(SCRIPTS[arguments[0]])
    return 0
