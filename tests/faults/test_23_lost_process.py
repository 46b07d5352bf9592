"""One of several processes dies: the others end with a reason, the last checkpoint is whole, and a restart goes on from it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from selfsight.cli import main
from selfsight.engine.checkpoint import newest_checkpoint

from training import command, kept, processes, status, waited_for

pytestmark = pytest.mark.slow
FIRST = Path("checkpoints", "step_00000005", "manifest.json")


@pytest.mark.parametrize("killed", [0, 1])
def test_the_other_process_ends_with_a_reason(tmp_path, killed):
    out = tmp_path / "run"
    both = processes(2, command(out, "simclr", "--steps", "3000"), stderr=subprocess.PIPE)
    try:
        waited_for(out / FIRST)
        both[killed].kill()
        before = time.monotonic()
        error = both[1 - killed].communicate(timeout=60)[1]
        assert time.monotonic() - before < 30
    finally:
        for process in both:
            process.kill()
            process.communicate()
    assert both[1 - killed].returncode == 5
    assert "Another process of this run has ended" in error
    assert "--resume" in error
    assert "Traceback" not in error
    assert status(out) == ("failed" if killed else "running")  # the first process writes it
    assert newest_checkpoint(out / "checkpoints", pytest.fail) is not None


def children(pid: int) -> list[int]:
    """Numbers of the processes that a process has started."""
    return [int(number) for number in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_torchrun_starts_them_again(tmp_path, capfd):
    out, whole = tmp_path / "run", tmp_path / "whole"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    here = dict(os.environ) | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*torchrun, "-m", "selfsight", *command(whole)], env=here, check=False)
    assert done.returncode == 0
    line = [*torchrun, "--max-restarts", "1", "-m", "selfsight", *command(out, "simclr", "--resume")]
    agent = subprocess.Popen(line, env=here)
    try:
        waited_for(out / FIRST)
        os.kill(children(agent.pid)[1], 9)
        assert agent.wait(timeout=120) == 0
    finally:
        agent.kill()
    assert status(out) == "finished"
    assert kept(out) == kept(whole)
    assert main(command(out, "simclr", "--resume")) == 0  # nothing is left to do
