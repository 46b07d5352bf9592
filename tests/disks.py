"""Commands on small, full and read-only file systems, which this program mounts; run it in a namespace of its own (unshare -rm).

Reads a JSON list of cases from standard input: {"words", "run", "size", "free", "read_only"}; in the words, DISK stands for the mounted
folder, in which ``run`` is a copy of a folder. Writes for each case the exit code, the messages and the status of the run.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from selfsight.cli import main

DATA = "world:shapes?count=24&size=16"
COMMANDS = {
    "bank": ["bank", "DISK/run", "--data", DATA],
    "measure": ["measure", "DISK/run", "--train", DATA, "--test", DATA, "--probes", "knn"],
    "report": ["report", "DISK/run"],
    "attribute": ["explain", "attribute", "DISK/run", f"{DATA}#0", "--method", "gradient"],
    "clusters": ["discover", "DISK/run", DATA, "--what", "clusters", "--classes", "2"],
    "boxes": ["discover", "DISK/run", DATA, "--what", "boxes"],
    "explore": ["explore", "DISK/run", "--no-serve", "--no-untrained", "--maps", "pca"],
}
"""Commands that write results about a run."""


def namespaces() -> bool:
    """Whether this user may mount file systems in a namespace of its own."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False).returncode == 0


def outcomes(cases: list[dict]) -> list[dict]:
    """Run this file in a namespace of its own."""
    line = ["unshare", "-rm", sys.executable, __file__]
    return json.loads(subprocess.run(line, input=json.dumps(cases), capture_output=True, text=True, check=True).stdout)


def in_process(words: list[str], log: Path) -> int:
    """Exit code of a command in a process of its own."""
    child = os.fork()
    if child == 0:
        with log.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        os._exit(main(words))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def outcome(case: dict, disk: Path, log: Path) -> dict:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={case.get('size', 64 << 20)}", "tmpfs", disk], check=True)
    try:
        if case.get("run"):
            shutil.copytree(case["run"], disk / "run")
        if "free" in case:
            room = shutil.disk_usage(disk).free - case["free"]
            with (disk / "filler").open("wb") as file:
                file.truncate(0)
                os.posix_fallocate(file.fileno(), 0, room)
        if case.get("read_only"):
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        code = in_process([word.replace("DISK", str(disk)) for word in case["words"]], log)
        status = disk / "run" / "STATUS.json"
        content = status.read_text() if status.is_file() else ""
        left = [str(path.relative_to(disk)) for path in disk.rglob("*") if "partial" in path.name or path.name == ".lock"]
        steps = sorted(path.name for path in (disk / "run" / "checkpoints").glob("step_*"))
        return {"code": code, "said": log.read_text(), "status": content, "left": left, "steps": steps}
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


if __name__ == "__main__":
    import torch

    import selfsight.api
    import selfsight.workflows.train.run  # noqa: F401 - shared by the processes of the cases

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        disk, log = Path(place, "disk"), Path(place, "log")
        disk.mkdir()
        json.dump([outcome(case, disk, log) for case in json.load(sys.stdin)], sys.stdout)
