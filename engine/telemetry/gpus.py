"""The GPUs, read by processes of their own: a driver that hangs is silence, one that crashes is a reason."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from engine.process import module_argv
from engine.telemetry.gpu_loop import Gpus, GpuState
from engine.telemetry.nvml import GpuReading, GpuSnapshot
from engine.telemetry.nvml_words import Fault

LIBRARY = "libnvidia-ml.so.1"
"""The NVIDIA driver's library, as pynvml asks for it."""
HUNG_S = 120.0
"""A reader that was silent for longer is ended; a call that takes 3 s makes a whole reading take 40."""
LONGEST_PAUSE_S = 60.0
"""Between two starts of a reader that crashes."""

_LOOK_EVERY_S = 30.0
_WELL_AFTER_S = 60.0
"""A reader that lived for so long starts its pauses anew."""
_POLL_S = 0.5
_MOST_BYTES = 1 << 20

_log = logging.getLogger(__name__)
_NO_LIBRARY = Fault.NO_LIBRARY.value
_DECODER = msgspec.json.Decoder(Gpus)


def has_library() -> bool:
    """Whether an NVIDIA driver's library lies where the loader would find it; it is not loaded.

    Source: ld.so(8): LD_PRELOAD, LD_LIBRARY_PATH, /etc/ld.so.cache, the default folders.
    """
    if not sys.platform.startswith("linux"):
        return False
    if LIBRARY in os.environ.get("LD_PRELOAD", ""):
        return True
    try:
        if LIBRARY.encode() in Path("/etc/ld.so.cache").read_bytes():
            return True
    except OSError:  # musl has no cache
        pass
    return any((folder / LIBRARY).exists() for folder in _library_folders())


def _library_folders() -> Iterator[Path]:
    for part in os.environ.get("LD_LIBRARY_PATH", "").split(":"):
        if part:
            yield Path(part)
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    for name in ("/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/lib/wsl/lib", "/usr/local/lib"):
        yield Path(name)
        if multiarch and name in ("/lib", "/usr/lib"):
            yield Path(name, multiarch)
    yield Path(sys.base_prefix, "lib")


def how_it_died(exit_code: int) -> str:
    """What a driver did to its reader, as a sentence."""
    try:
        how = f"signal {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit code {exit_code}"
    except ValueError:
        how = f"signal {-exit_code}"
    return f"The NVIDIA driver takes down the process that reads it ({how})."


class GpuFeed:
    """The newest state of the GPUs, from a process that is started, drained, ended and started again by one thread.

    Whoever looks at `slot` never waits. At most one reader lives at a time: one that cannot even be killed, since the
    kernel holds it in a call of the driver, keeps the next from being started.
    """

    def __init__(self, interval_s: float) -> None:
        self.slot: tuple[float, Gpus] | None = None
        """(monotonic instant, GPUs) of the newest line; None before the first."""
        self.error = ""
        """Why the reader is gone; empty while it lives."""
        self._interval_s = interval_s
        self._process: subprocess.Popen[bytes] | None = None
        self._is_first_in = threading.Event()
        self._has_stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gpu sensors", daemon=True)

    def start(self) -> None:
        """Begin; called once."""
        self._thread.start()

    @property
    def reader_pid(self) -> int | None:
        """The process that reads the driver; None: there is none now."""
        process = self._process
        return None if process is None or process.returncode is not None else process.pid

    def wait_first(self, timeout_s: float) -> bool:
        """Wait for the first answer; False where none came in time."""
        return self._is_first_in.wait(timeout_s)

    def close(self, timeout_s: float) -> None:
        """Stop, and end the reader; one that hangs is left behind, its input has ended."""
        self._has_stopped.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        pause_s = 1.0
        while not self._has_stopped.is_set():
            if not has_library():
                self._idle_without_library()
                continue
            began_s = time.monotonic()
            why = self._serve()
            if self._has_stopped.is_set():
                return
            if time.monotonic() - began_s > _WELL_AFTER_S:
                pause_s = 1.0
            if why != self.error:
                _log.warning("%s It is read again with pauses of up to %g s.", why, LONGEST_PAUSE_S)
            self.error = why
            self._put(_lost(self.slot[1] if self.slot else Gpus(), why))
            self._has_stopped.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _put(self, gpus: Gpus) -> None:
        self.slot = (time.monotonic(), gpus)
        self._is_first_in.set()

    def _idle_without_library(self) -> None:
        """Say so for a while, then look again: a driver may be installed during the run."""
        until_s = time.monotonic() + _LOOK_EVERY_S
        while time.monotonic() < until_s:
            self._put(Gpus(reason=f"{_NO_LIBRARY[0].upper()}{_NO_LIBRARY[1:]}."))
            if self._has_stopped.wait(min(self._interval_s, 1.0)):
                return

    def _serve(self) -> str:
        """The life of one reader; the answer is why it is over."""
        try:
            process = subprocess.Popen(
                module_argv("engine.telemetry", "gpus", str(self._interval_s)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            return f"The process that reads the NVIDIA driver cannot be started: {error}."
        self._process = process
        try:
            is_silent = self._drain(process)
        finally:
            exit_code = self._end(process)
        if is_silent:
            return f"The NVIDIA driver has not answered for {HUNG_S:.0f} s."
        return how_it_died(exit_code) if exit_code else "The process that reads the NVIDIA driver is gone."

    def _drain(self, process: subprocess.Popen[bytes]) -> bool:
        """Take the newest line again and again until the output ends; True where the reader fell silent."""
        assert process.stdout is not None
        pending, heard_s = b"", time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not self._has_stopped.is_set():
                if not selector.select(_POLL_S):
                    if time.monotonic() - heard_s > HUNG_S:
                        return True
                    continue
                data = os.read(process.stdout.fileno(), 1 << 16)
                lines = (pending + data).rsplit(b"\n", 2)
                pending = lines[-1]
                if not data or len(pending) > _MOST_BYTES:
                    return False
                if len(lines) > 1:
                    try:
                        gpus = _DECODER.decode(lines[-2])
                    except msgspec.MsgspecError:
                        return False
                    heard_s = time.monotonic()
                    self._put(gpus)
                    self.error = ""
        return False

    def _end(self, process: subprocess.Popen[bytes]) -> int:
        """End a reader and wait until it is gone, however long, unless the program ends; its exit code."""
        assert process.stdin is not None and process.stdout is not None
        if process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)  # its output ends a moment before it does
        process.stdin.close()
        process.stdout.close()
        if process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.3)
        if process.poll() is None:
            process.kill()
        while process.poll() is None and not self._has_stopped.wait(0.05):
            pass
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
        return process.returncode or 0


def _lost(gpus: Gpus, reason: str) -> Gpus:
    """The GPUs once their reader is gone: known, and silent."""
    states = {
        uuid: GpuState(
            GpuReading(gpu=state.reading.gpu, is_lost=True),
            None,
            time.monotonic(),
            None,
            state.joules,
            state.seconds,
            state.num_rejected,
            state.rejected_watts,
            state.ceiling_watts,
        )
        for uuid, state in gpus.states.items()
    }
    return Gpus(states, reason, has_unreadable=True)


_stuck: subprocess.Popen[bytes] | None = None
_stuck_lock = threading.Lock()


def snapshot(timeout_s: float = 5.0) -> GpuSnapshot:
    """Every GPU and who uses it, now, asked by a process of its own.

    A driver that hangs costs `timeout_s` and is a reason, one that crashes is a reason at once. While a process that
    was asked before cannot be ended, no other is started: they never pile up.
    """
    global _stuck
    if not has_library():
        return _unread(f"{_NO_LIBRARY[0].upper()}{_NO_LIBRARY[1:]}.", has_gpu=False)
    silent = f"The NVIDIA driver has not answered for {timeout_s:g} s."
    with _stuck_lock:
        if _stuck is not None and _stuck.poll() is None:
            return _unread(silent)
        process = subprocess.Popen(
            module_argv("engine.telemetry", "snapshot"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            _stuck = process
            return _unread(silent)
    try:
        return msgspec.json.decode(output, type=GpuSnapshot)
    except msgspec.MsgspecError:
        return _unread(how_it_died(process.returncode))


def _unread(reason: str, *, has_gpu: bool = True) -> GpuSnapshot:
    return GpuSnapshot(gpus=(), processes=None if has_gpu else (), reason=reason, has_unreadable_gpu=has_gpu)
