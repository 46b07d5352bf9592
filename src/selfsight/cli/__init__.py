"""The command line. Help and completion load neither torch nor timm; the module of a verb is imported when it is called."""

import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

from selfsight.core.errors import EnvironmentFault, SelfsightError, UsageError

__all__ = ["VERBS", "main"]

VERBS = {
    "learn": "train a representation of images without labels",
    "bank": "extract features of a data set to disk",
    "measure": "evaluate a representation with probes, analyses and baselines",
    "explain": "attribution, inversion and activation maximisation",
    "discover": "find objects, segments, parts or clusters without labels",
    "explore": "explore a data set and its representations in a local web page",
    "report": "write one page about a run",
    "demo": "train, evaluate and report in a few minutes, without internet or data",
    "doctor": "show what this machine can do, and how long a run would take",
    "methods": "list the methods",
    "completion": "print a script for shell completion",
}


def _help() -> str:
    width = max(map(len, VERBS))
    lines = "\n".join(f"  {verb:<{width}}  {words}" for verb, words in VERBS.items())
    return (
        "usage: selfsight VERB [options]\n\nLearn visual representations without labels, measure, explain and use them.\n\n"
        f"verbs:\n{lines}\n\n"
        "selfsight VERB --help shows its options; selfsight learn DATA --method NAME --help shows the options of a method.\n"
        "exit codes: 0 done, 2 usage, 3 data, 4 diverged or collapsed, 5 environment, 75 preempted and resumable, 130 interrupted\n"
    )


def main(arguments: list[str] | None = None) -> int:
    """Run a verb; return the exit code."""
    arguments_given = sys.argv[1:] if arguments is None else arguments
    if not arguments_given or arguments_given[0] in ("-h", "--help", "help"):
        sys.stdout.write(_help())
        return 0
    if arguments_given[0] in ("-V", "--version"):
        from selfsight import __version__

        sys.stdout.write(f"selfsight {__version__}\n")
        return 0
    try:
        return _verb(arguments_given[0])(arguments_given[1:])
    except SelfsightError as error:
        sys.stderr.write(f"error: {error.cause}\n" + (f"  {error.remedy}\n" if error.remedy else ""))
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except Exception as error:  # noqa: BLE001 - no traceback reaches a user
        return _unexpected(error, arguments_given)


def _unexpected(error: Exception, arguments: Sequence[str]) -> int:
    """Report an error that no other code has explained; returns the exit code."""
    from selfsight.core.files import free_bytes, is_disk_full
    from selfsight.engine.memory import is_out_of_memory

    if is_disk_full(error):
        name = getattr(error, "filename", None)  # the system does not tell which file a failed write was for
        folder = Path(str(name)).parent if name else _fullest(arguments)
        cause = (
            f"A file could not be written: {(str(error).splitlines() or [''])[0]}; {free_bytes(folder):,} bytes are free below {folder}."
        )
        return _say(cause, "Free disk space (or raise the quota), and repeat the command.", EnvironmentFault.exit_code)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return _say(
            f"{where}{error.strerror or error}", "Check the path, its permissions and the free disk space.", EnvironmentFault.exit_code
        )
    first = (str(error).splitlines() or [""])[0]
    if is_out_of_memory(error):
        advice = "Use fewer or smaller images (--limit, --size) or --device cpu, or end other programs on the device."
        return _say(f"The memory does not suffice: {first or type(error).__name__}", advice, EnvironmentFault.exit_code)
    return _say(f"selfsight has failed ({type(error).__name__}: {first})", f"Please report it{_details(error)}.", 1)


def _fullest(arguments: Sequence[str]) -> Path:
    """The folder with the fewest free bytes of those that a command writes to."""
    from selfsight.core.cache import cache_folder
    from selfsight.core.files import free_bytes

    named = [Path(word.rpartition("=")[2]) for word in arguments if word and not word.startswith("-")]
    return min((*named, Path.cwd(), Path(tempfile.gettempdir()), cache_folder()), key=free_bytes)


def _details(error: Exception) -> str:
    """Write the traceback to a temporary file; its name as the end of a sentence, empty if it cannot be written."""
    try:
        handle, name = tempfile.mkstemp(prefix="selfsight-error-", suffix=".txt")
        with os.fdopen(handle, "wb") as file:
            file.write("".join(traceback.format_exception(error)).encode(errors="replace"))
    except OSError:
        return ""
    return f" with the details in {name}"


def _say(cause: str, remedy: str, code: int) -> int:
    sys.stderr.write(f"error: {cause}\n  {remedy}\n")
    return code


def _verb(name: str):
    if name not in VERBS:
        near = get_close_matches(name, VERBS, n=1)
        raise UsageError(f"There is no verb {name!r}.", f"Did you mean selfsight {near[0]}?" if near else f"Verbs are: {', '.join(VERBS)}.")
    return import_module(f"selfsight.cli.{name}").run
