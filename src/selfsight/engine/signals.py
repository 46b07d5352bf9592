"""SIGTERM and Ctrl-C during training."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from selfsight.core.distribute import any_process

__all__ = ["EXIT_CODES", "Signals"]

EXIT_CODES = {signal.SIGTERM: 75, signal.SIGINT: 130}
"""Exit codes of a run that a signal has stopped."""


class Signals:
    """Turns SIGTERM and Ctrl-C into a flag that is read between steps; a second signal ends the process at once.

    A thread notices signals also while the main thread is inside a long call of torch, in which Python runs no signal handlers. In an
    interactive session a second Ctrl-C raises KeyboardInterrupt and the session continues.

    Args:
        on_first: called by that thread after the first signal.
        on_second: called by that thread before the process ends.
    """

    def __init__(
        self, on_first: Callable[[signal.Signals], object] | None = None, on_second: Callable[[signal.Signals], object] | None = None
    ) -> None:
        self.caught: signal.Signals | None = None
        self.on_first, self.on_second = on_first, on_second
        self._before: dict[signal.Signals, Any] = {}
        self._thread: threading.Thread | None = None
        self._wakeup_before = -1

    def __enter__(self) -> "Signals":
        if threading.current_thread() is not threading.main_thread():
            return self  # only the main thread can handle signals
        self._receiver, self._sender = socket.socketpair()
        self._sender.settimeout(0)
        self._wakeup_before = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        for name in EXIT_CODES:
            self._before[name] = signal.signal(name, self._catch)
        self._thread = threading.Thread(target=self._watch, name="selfsight-signals", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is None:
            return
        for name, handler in self._before.items():
            signal.signal(name, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        self._sender.send(b"\0")
        self._thread.join()
        self._sender.close()
        self._receiver.close()
        self._thread = None

    def _catch(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        again, self.caught = self.caught is not None, signal.Signals(number)
        if again and number == signal.SIGINT and _interactive():
            raise KeyboardInterrupt

    def _watch(self) -> None:
        """Receive the number of each signal as a byte; 0 ends the thread."""
        count = 0
        while number := self._receiver.recv(1)[0]:
            if self._wakeup_before >= 0:
                with suppress(OSError):
                    os.write(self._wakeup_before, bytes([number]))
            if number not in EXIT_CODES:
                continue
            count += 1
            callback = self.on_first if count == 1 else self.on_second if count == 2 else None
            with suppress(Exception):  # a full disk must not keep the process alive
                if callback is not None:
                    callback(signal.Signals(number))
            if count > 1 and not (number == signal.SIGINT and _interactive()):
                os._exit(EXIT_CODES[signal.Signals(number)])

    def received(self) -> bool:
        """Whether any process received a signal; the same on all processes, so that all stop after the same step."""
        return any_process(self.caught is not None)


def _interactive() -> bool:
    """Whether this process is a Python shell or a notebook, which must survive."""
    return hasattr(sys, "ps1") or "ipykernel" in sys.modules
