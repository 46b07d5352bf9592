"""A signal during a long step is answered at once, and a second one ends the process without damage."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from selfsight.cli import main
from selfsight.core.errors import UsageError
from selfsight.engine.run import RunFolder
from selfsight.engine.signals import Signals
from selfsight.workflows.train.request import TrainRequest

pytestmark = pytest.mark.slow  # seconds each, in processes of their own

WORLD = "world:shapes?count=64&size=16"
WORDS = ["learn", WORLD, "--size", "16", "--backbone", "resnet_tiny?width=4", "--batch", "8", "--steps", "6", "--save-every", "2"]
WORDS += ["--device", "cpu", "--no-report", "--out"]
LONG = """
import ctypes, sys
from selfsight.cli import main
from selfsight.engine.plan import Plan
step, sleep = Plan.step, ctypes.CDLL(None).usleep
def long(self, method, placed, optimiser, views, turn, clock, hardware):
    if clock.step == 3:
        print("within", flush=True)
        for _ in range(60):
            sleep(999_000)  # a call without bytecode in between, and the handlers of Python run once a second at most
    return step(self, method, placed, optimiser, views, turn, clock, hardware)
Plan.step = long
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)])
def test_a_second_signal_ends_a_long_step(tmp_path, number, code):
    out = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-c", LONG, *WORDS, str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "within\n"
        process.send_signal(number)
        status, ends = {}, time.monotonic() + 10
        while status.get("status") != "preempted" and time.monotonic() < ends:
            time.sleep(0.02)
            status = json.loads((out / "STATUS.json").read_text())
        assert status["status"] == "preempted"  # so that it is true even if the process is killed now
        assert number.name in status["reason"]
        assert process.poll() is None
        before = time.monotonic()
        process.send_signal(number)
        error = process.communicate(timeout=10)[1]
        assert time.monotonic() - before < 5
    finally:
        process.kill()
    assert process.returncode == code
    assert f"{number.name} received: the step is finished and saved; a second signal ends the run" in error
    assert "--resume" in error
    assert "Traceback" not in error
    assert not (out / ".lock").exists()
    assert json.loads((out / "STATUS.json").read_text())["status"] == "preempted"
    assert main([*WORDS, str(out), "--resume"]) == 0
    assert [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()] == [0, 5]


def test_handlers_are_restored():
    before = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT)}
    receiver, sender = os.pipe()
    os.set_blocking(sender, False)
    earlier = signal.set_wakeup_fd(sender)
    try:
        with Signals() as signals:
            assert not signals.received()
            os.kill(os.getpid(), signal.SIGTERM)
            assert signals.received()
            assert os.read(receiver, 1) == bytes([signal.SIGTERM])  # another listener still hears it
        assert signal.set_wakeup_fd(-1) == sender
    finally:
        signal.set_wakeup_fd(earlier)
        os.close(receiver)
        os.close(sender)
    assert {name: signal.getsignal(name) for name in before} == before
    assert "selfsight-signals" not in {thread.name for thread in threading.enumerate()}


def test_a_notebook_survives_a_second_interruption(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)

    def twice() -> None:
        with RunFolder(tmp_path).signals():
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.2)

    with pytest.raises(KeyboardInterrupt):
        twice()
    assert json.loads((tmp_path / "STATUS.json").read_text())["status"] == "preempted"


def test_other_threads_handle_no_signals():
    found: list[bool] = []

    def work() -> None:
        with Signals() as signals:
            found.append(signals.received())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]


NAN, INFINITE = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("steps", -3, "steps is -3, and must be at least 0"),
        ("steps", 2.5, "steps is 2.5, and must be a whole number"),
        ("steps", "3", "steps is '3', and must be a whole number"),
        ("steps", True, "steps is True, and must be a whole number"),
        ("batch", 8.0, "batch is 8.0, and must be a whole number"),
        ("seed", 1.5, "seed is 1.5, and must be a whole number"),
        ("epochs", NAN, "epochs is nan, and must be a finite number"),
        ("epochs", INFINITE, "epochs is inf, and must be a finite number"),
        ("epochs", -0.5, "epochs is -0.5, and must be at least 0"),
        ("minutes", NAN, "minutes is nan, and must be a finite number"),
        ("minutes", INFINITE, "minutes is inf, and must be a finite number"),
        ("minutes", 0.0, "0 minutes are no time to train"),
        ("save_every", 0, "save_every is 0, and must be at least 1"),
        ("size", 10**6, "size is 1000000, and must be at most"),
        ("workers", 10**6, "workers is 1000000, and must be at most"),
        ("training", {"rate": -1.0}, "training.rate is -1.0, and must be above 0"),
        ("training", {"rate": NAN}, "training.rate is nan"),
        ("training", {"rate": "x"}, "training.rate is 'x'"),
        ("training", {"reference_batch": 0}, "training.reference_batch is 0"),
        ("training", {"decay": -0.1}, "training.decay is -0.1"),
        ("training", {"warmup": 1.5}, "training.warmup is 1.5, and must be from 0 to 1"),
        ("training", {"final": -1.0}, "training.final is -1.0"),
        ("training", {"clip": -1.0}, "training.clip is -1.0"),
        ("training", {"momentum": 1.0}, "training.momentum is 1.0"),
        ("training", {"betas": (0.9, 1.0)}, "training.betas is (0.9, 1.0)"),
        ("training", {"optimiser": "adam"}, "training.optimiser is 'adam'"),
        ("training", {"rtae": 1.0}, "There is no option 'rtae'"),
    ],
)
def test_every_number_of_a_request_is_checked(name, value, words):
    request = TrainRequest(WORLD)
    object.__setattr__(request, name, value)  # past the type check of the tests
    with pytest.raises(UsageError) as refusal:
        request.__post_init__()
    assert words in refusal.value.cause
    assert refusal.value.remedy


N, PICTURE = "untrained:resnet_tiny?width=4", "world:shapes?count=4&size=16#0"


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["bank", N, "--data", WORLD, "--size", "-4"], "size is -4, and must be at least 8"),
        (["bank", N, "--data", WORLD, "--size", "0"], "size is 0, and must be at least 8"),
        (["bank", N, "--data", WORLD, "--limit", "-1"], "limit is -1, and must be at least 1."),
        (["explain", "maximise", N, "unit:stages.2/0", "--count", "0"], "count is 0, and must be at least 1."),
        (["explain", "maximise", N, "unit:stages.2/0", "--steps", "-1"], "steps is -1, and must be at least 0."),
        (["explain", "invert", N, PICTURE, "--steps", "-1"], "steps is -1, and must be at least 0."),
        (["learn", WORLD, "--size", "16", "--steps", "1", "--hidden", "-4"], "hidden is -4, and must be at least 0."),
        (["learn", WORLD, "--size", "16", "--steps", "1", "--backbone", "resnet_tiny?width=0"], "resnet_tiny?width=0 cannot be made"),
    ],
)
def test_numbers_of_other_verbs_are_checked(capsys, words, cause):
    assert main([*words, "--device", "cpu"] if words[0] in ("learn", "bank") else words) == 2
    assert cause in capsys.readouterr().err


def test_a_batch_larger_than_the_data_is_explained(tmp_path, capsys):
    words = [*WORDS, str(tmp_path / "run")]
    words[words.index("--batch") + 1] = "100"
    assert main(words) == 0
    assert "batch 64: as many as there are images, not the requested 100" in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "config.json").read_text())["batch"] == 64
