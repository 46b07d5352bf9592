"""Jobs in a worker process: progress, cached results, cancellation, failures, a full queue."""

import json
import time
from pathlib import Path

import pytest

from selfsight.explorer.server.jobs import WAITING, Jobs, QueueFull

WORKER = """
import json, sys, time, os
for line in sys.stdin:
    asked = json.loads(line)
    given = asked["given"]
    print(json.dumps({"words": "it begins"}), flush=True)
    if asked["kind"] == "die":
        os._exit(3)
    time.sleep(given.get("seconds", 0))
    if asked["kind"] == "fail":
        print(json.dumps({"failed": "no reason"}), flush=True)
        continue
    open(os.path.join(asked["out"], "sheet.png"), "wb").write(b"png")
    print(json.dumps({"found": {"files": ["sheet.png"], "pid": os.getpid()}}), flush=True)
"""


@pytest.fixture
def jobs(tmp_path):
    (tmp_path / "worker.py").write_text(WORKER)
    made = Jobs(tmp_path / "jobs", [str(tmp_path / "worker.py")], "weights")
    yield made
    made.close()


def waited(jobs: Jobs, key: str, *states: str, seconds: float = 15) -> dict:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = jobs.status(key)
        assert found is not None
        if found["state"] in states:
            return found
        time.sleep(0.02)
    raise AssertionError(found)


def test_a_result_is_cached(jobs, tmp_path):
    key = jobs.submit("do", {"row": 1})["job"]
    found = waited(jobs, key, "done")
    file = jobs.file(key, "sheet.png")
    assert isinstance(file, Path)
    assert file.read_bytes() == b"png"
    assert jobs.file(key, "found.json") is None  # which was not told
    assert jobs.file(key, "../found.json") is None
    assert jobs.submit("do", {"row": 1})["state"] == "done"
    another = jobs.submit("do", {"row": 1}, "another probe")["job"]
    assert another != key
    waited(jobs, another, "done")
    asked = [json.loads((tmp_path / "jobs" / one / "asked.json").read_text()) for one in (key, another)]
    assert asked == [{"kind": "do", "given": {"row": 1}, "of": ["weights", probe]} for probe in ("", "another probe")]
    older = Jobs(tmp_path / "jobs", ["/nowhere.py"], "other weights")
    assert older.submit("do", {"row": 1})["state"] != "done"
    older.close()
    other = Jobs(tmp_path / "jobs", ["/nowhere.py"], "weights")
    assert other.submit("do", {"row": 1})["found"] == found["found"]
    other.close()


def test_a_cancelled_job_stops_and_the_next_is_done(jobs):
    slow = jobs.submit("do", {"seconds": 60})["job"]
    waited(jobs, slow, "running")
    quick = jobs.submit("do", {"row": 2})["job"]
    assert jobs.status(quick)["before"] == 1
    assert jobs.cancel(slow)["state"] == "cancelled"
    waited(jobs, quick, "done")
    assert jobs.status(slow)["state"] == "cancelled"
    assert jobs.cancel("nothing") is None


def test_failures_are_reported_and_a_dead_worker_is_replaced(jobs):
    assert waited(jobs, jobs.submit("fail", {})["job"], "failed")["words"] == "no reason"
    assert "without a result" in waited(jobs, jobs.submit("die", {})["job"], "failed")["words"]
    assert waited(jobs, jobs.submit("do", {"row": 3})["job"], "done")


def test_a_full_queue_rejects_jobs(jobs):
    waited(jobs, jobs.submit("do", {"seconds": 30, "row": -1})["job"], "running")
    for row in range(WAITING):
        assert jobs.submit("do", {"seconds": 30, "row": row})["before"] == row + 1
    with pytest.raises(QueueFull):
        jobs.submit("do", {"seconds": 30, "row": WAITING})
    assert jobs.submit("do", {"seconds": 30, "row": 3})["before"] == 4  # what waits already is found


def test_waiting_jobs_are_not_evicted(jobs, monkeypatch):
    from selfsight.explorer.server import jobs as module

    done = jobs.submit("do", {"row": 0})["job"]
    waited(jobs, done, "done")
    monkeypatch.setattr(module, "KEPT", 2)
    slow = jobs.submit("do", {"seconds": 1, "row": 1})["job"]
    waited(jobs, slow, "running")
    rest = [jobs.submit("do", {"row": row})["job"] for row in (2, 3, 4)]
    assert jobs.status(done) is None  # it is on disk
    assert all(waited(jobs, key, "done") for key in rest[-1:])


def test_arguments_reach_the_worker_unchanged(jobs):
    key = jobs.submit("do", {"name": "ü\n'\"", "seconds": 0})["job"]
    found = waited(jobs, key, "done")
    assert json.dumps(found)
