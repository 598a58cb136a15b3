"""A sensor that may hang, read in a thread of its own which leaves its newest answer where others can look."""

from __future__ import annotations

import logging
import threading
import time
from typing import Generic, TypeVar

Answer = TypeVar("Answer")

_log = logging.getLogger(__name__)
_PAUSE_AFTER_ERROR_S = 5.0


class Worker(Generic[Answer]):
    """Calls `step` again and again in one daemon thread; whoever looks at `slot` never waits for it.

    A call that hangs leaves `slot` to grow old; no second thread is started for it.
    """

    def __init__(self, name: str) -> None:
        self.slot: tuple[float, Answer] | None = None
        """(monotonic instant, answer) of the last step; None before the first."""
        self.error = ""
        """What went wrong in the last step, for the log and the reasons; empty where nothing did."""
        self._is_first_in = threading.Event()
        self._has_stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; called once."""
        self._thread.start()

    def step(self) -> tuple[Answer, float]:
        """Read once: the answer, and the seconds until the next step."""
        raise NotImplementedError

    def finish(self) -> None:
        """Let go of what `step` holds; called in the thread."""

    def wait_first(self, timeout_s: float) -> bool:
        """Wait for the first answer; False where none came in time."""
        return self._is_first_in.wait(timeout_s)

    def close(self, timeout_s: float) -> None:
        """Stop; a step that hangs is left behind, it ends with the process."""
        self._has_stopped.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._has_stopped.is_set():
            try:
                answer, pause_s = self.step()
                self.slot = (time.monotonic(), answer)
                self.error = ""
                self._is_first_in.set()
            except Exception as error:  # noqa: BLE001 -- top of a worker: a sensor may not end the sampling
                if not self.error:
                    _log.exception(
                        "%s failed; tried again every %g s", self._thread.name, _PAUSE_AFTER_ERROR_S
                    )
                self.error = f"{type(error).__name__}: {error}"
                pause_s = _PAUSE_AFTER_ERROR_S
            self._has_stopped.wait(max(0.0, pause_s))
        self.finish()
