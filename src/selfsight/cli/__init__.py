"""The command line. Help and completion load neither torch nor timm; a verb's own file is imported when it is called."""

import sys
from difflib import get_close_matches
from importlib import import_module

from selfsight.core.errors import SelfsightError, UsageError

__all__ = ["VERBS", "main"]

VERBS = {
    "learn": "learn a representation of pictures, without labels",
    "bank": "keep what a representation says of a data set",
    "measure": "score a representation beside its floors",
    "explain": "what in an image makes a representation say what it says",
    "discover": "find the objects of pictures, without labels",
    "explore": "see it all on a page of this machine",
    "report": "write one page about a run",
    "demo": "everything once, in a few minutes, without network or data",
    "doctor": "what this machine can do, and how long a run would take",
    "methods": "the catalogue of ways to learn",
    "completion": "a script that completes verbs, options and names in your shell",
}


def _help() -> str:
    width = max(map(len, VERBS))
    lines = "\n".join(f"  {verb:<{width}}  {words}" for verb, words in VERBS.items())
    return (
        "usage: selfsight VERB [options]\n\nLearn visual representations without labels, measure them, and put them to use.\n\n"
        f"verbs:\n{lines}\n\n"
        "selfsight VERB --help tells more; selfsight learn DATA --method NAME --help shows a method's own options.\n"
        "exit codes: 0 done, 2 usage, 3 data, 4 diverged or collapsed, 5 environment, 75 preempted and resumable, 130 interrupted\n"
    )


def main(arguments: list[str] | None = None) -> int:
    """Run a verb; return the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if not given or given[0] in ("-h", "--help", "help"):
        sys.stdout.write(_help())
        return 0
    if given[0] in ("-V", "--version"):
        from selfsight import __version__

        sys.stdout.write(f"selfsight {__version__}\n")
        return 0
    try:
        return _verb(given[0])(given[1:])
    except SelfsightError as error:
        sys.stderr.write(f"error: {error.cause}\n" + (f"  {error.remedy}\n" if error.remedy else ""))
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0


def _verb(name: str):
    if name not in VERBS:
        near = get_close_matches(name, VERBS, n=1)
        raise UsageError(f"There is no verb {name!r}.", f"Did you mean selfsight {near[0]}?" if near else f"Verbs are: {', '.join(VERBS)}.")
    return import_module(f"selfsight.cli.{name}").run
