"""Banks: time of extracting the output and five layers relative to a forward pass, and memory of a million rows.

``python benchmarks/bank.py`` writes ``benchmarks/results/bank.json``. Ratios are of CPU time in one process, measured alternately; memory is the
resident set of a separate process, sampled during extraction and search.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch

from selfsight.backbones.table import build_backbone
from selfsight.bank.extract import make_encoder
from selfsight.bank.nearest import nearest
from selfsight.bank.store import OUTPUT, Bank, BankWriter
from selfsight.core.origin import origin
from selfsight.core.representation import Representation

ROWS, DIM, BATCH, NEIGHBOURS, QUERIES = 1_000_000, 512, 4096, 10, 4096
REPEATS = 15


def ratio(spec: str, size: int, batch: int) -> dict[str, float]:
    """CPU time of an encoder of the output and five layers relative to one forward pass."""
    phi = Representation(build_backbone(spec, size=size), mean=(0.5,) * 3, std=(0.25,) * 3, size=size, spec=spec)
    encode, images = make_encoder(phi, phi.layers[-5:]), torch.rand(batch, 3, size, size)
    times: dict[str, list[float]] = {"forward": [], "bank": []}
    with torch.inference_mode():
        for repeat in range(REPEATS + 1):
            for name, run in (
                ("forward", lambda: phi.features(images.contiguous(memory_format=torch.channels_last))),
                ("bank", lambda: encode(images)),
            ):
                start = time.process_time()
                run()
                if repeat:
                    times[name].append(time.process_time() - start)
    forward, bank = (statistics.median(times[name]) for name in ("forward", "bank"))
    return {"layers": min(len(phi.layers), 5), "forward_s": round(forward, 4), "bank_s": round(bank, 4), "ratio": round(bank / forward, 3)}


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**30


def _private() -> float:
    """Resident anonymous memory (without mapped files) in GiB."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/smaps_rollup").read_text().splitlines() if ":" in line)
    return int(fields["Anonymous"].split()[0]) / 2**20


def million() -> None:
    """Extract a million rows of 512 numbers to disk and search them; print the memory use."""
    curve: list[tuple[float, str, float, float]] = []
    stage, stop, begin = ["start"], threading.Event(), time.time()

    def watch() -> None:
        while not stop.wait(0.5):
            curve.append((round(time.time() - begin, 1), stage[0], round(_resident(), 3), round(_private(), 3)))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        stage[0] = "extract"
        with BankWriter(Path(folder) / "bank", ROWS, "float32") as writer:
            for start in range(0, ROWS, BATCH):
                writer.add({OUTPUT: rng.standard_normal((min(BATCH, ROWS - start), DIM), dtype=np.float32)})
            bank: Bank = writer.finish([str(row) for row in range(ROWS)], {"kind": "float32"})
        stage[0] = "search"
        rows = bank.pooled()
        scores, found = nearest(np.asarray(rows[:QUERIES]), rows, NEIGHBOURS)
        assert (found[:, 0] == np.arange(QUERIES)).all()
        assert scores.shape == (QUERIES, NEIGHBOURS)
    stop.set()
    thread.join()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        json.dumps(
            {"peak_resident_gib": round(peak, 3), "processor_s": round(time.process_time(), 1), "curve": curve[:: max(len(curve) // 60, 1)]}
        )
    )


def main() -> int:
    """Measure and write."""
    if sys.argv[1:] == ["million"]:
        million()
        return 0
    done = subprocess.run([sys.executable, __file__, "million"], capture_output=True, text=True, check=True)
    found = {
        "rows": ROWS,
        "dim": DIM,
        "queries": QUERIES,
        "commit": origin()["commit"],
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "ratio": {
            "resnet18, 64 px": ratio("resnet18", 64, 32),
            "resnet50, 224 px": ratio("resnet50", 224, 4),
            "vit_small, 224 px": ratio("vit_small", 224, 4),
        },
        "million": json.loads(done.stdout),
        "million_columns": ["seconds", "stage", "resident GiB", "of which anonymous GiB"],
    }
    (Path(__file__).parent / "results" / "bank.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({name: value for name, value in found.items() if name != "million"}), found["million"]["peak_resident_gib"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
