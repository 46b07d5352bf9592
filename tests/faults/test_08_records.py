"""A disk without space for records: training goes on, says so once, and writes the lines later."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from selfsight.core.cache import append_or_restore
from selfsight.workflows.train.run import RunPolicy, run_training

from training import Breaks, kept, quiet, request_for, status

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_records_are_written_later(tmp_path, capsys):
    """The file lies on a full disk for one record of three, as the kernel reports it."""
    out, whole = tmp_path / "run", tmp_path / "whole"
    file, aside = out / "metrics.jsonl", out / "aside"

    def fill() -> None:
        file.rename(aside)
        file.symlink_to(FULL)

    def empty() -> None:
        file.unlink()
        aside.rename(file)

    request = request_for("simclr", steps=25)
    run_training(request, whole, RunPolicy(progress=quiet))
    capsys.readouterr()
    run_training(request, out, RunPolicy(progress=quiet, observers=lambda source, settings: [Breaks(5, fill), Breaks(15, empty)]))
    assert kept(out) == kept(whole)
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [0, 10, 20, 24]
    assert status(out) == "finished"
    warnings = [line for line in capsys.readouterr().err.splitlines() if "metrics.jsonl could not be written" in line]
    assert len(warnings) == 1
    assert os.strerror(28) in warnings[0]


def test_a_line_that_was_written_in_part_is_removed(tmp_path):
    """The kernel takes ten bytes and then no more, as at the limit of a disk."""
    file = tmp_path / "metrics.jsonl"
    file.write_text("first\n")
    limited = f"""
import resource, signal
from pathlib import Path
from selfsight.core.cache import append_or_restore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16))
try:
    append_or_restore(Path({str(file)!r}), "a line of more than ten bytes")
except OSError as error:
    print(error.strerror)
"""
    done = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, check=True)
    assert done.stdout == f"{os.strerror(errno.EFBIG)}\n"
    assert file.read_text() == "first\n"
    append_or_restore(file, "second\n")
    assert file.read_text() == "first\nsecond\n"
