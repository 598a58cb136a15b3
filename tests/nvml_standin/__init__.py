"""A stand-in for NVIDIA's driver library, so that the real pynvml is tested without a GPU.

    standin = build(tmp_path, celsius=60, power_mw=25_000)
    subprocess.run([...], env={**os.environ, **standin.env})
    standin.set(lost=1)        # while the program runs
    standin.set(lost=None)     # back to the default

Keys of a GPU (`gpu=` chooses which, 0 by default), with their defaults:
    name (NVIDIA GeForce RTX 2050) · uuid · capability (8.6) · architecture (7: Ampere) · celsius (55) ·
    slowdown_celsius (97) · shutdown_celsius (102) · power_mw (25000) · limit_mw (35000) · util_pct (90) ·
    memory_total_bytes (4 GiB) · memory_used_bytes (1 GiB)
    wave_mw "low,high,period_s": a square wave instead of power_mw, the same phase in every process
    spike "mw,n": every n-th power reading says mw
    true_mw: what the live counter counts where power_mw lies
    clock_mhz (1200) · memory_clock_mhz (5500) · fan_pct (err:3)
    throttle (0): NVML's bits of what holds the clocks down
    counter_mj: "live" (the default) grows with the true power, from 1e6 in each process; or a number
    counter_fault: what befalls the live counter, "reset:<s>" (to 0), "freeze:<s>" (stands still from then on), both at
    an instant of the monotonic clock, or "wrap:<mJ>" (modulo)
    compute, graphics "pid:bytes pid:na": processes; na is NVML's "not available"
    lost 1: the GPU is lost, and stays so until it is set back AND the library was shut down and opened again
Keys of the driver: devices (1) · driver (580.65.06) · cuda (13000) · init (0: the error code of nvmlInit) · hang_s (0:
    every call first sleeps so long) · crash ("segv", "abort", "exit": every call takes its process down).
Any GPU's value may be "err:3" (that NVML error code; 3 is "not supported").
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

VARIABLE = "LLM_TUI_NVML_STANDIN"
UUID = "GPU-00000000-0000-0000-0000-000000000000"
"""Of GPU 0, unless set."""
REPOSITORY = Path(__file__).resolve().parents[2]

_DRIVER_KEYS = ("devices", "driver", "cuda", "init", "hang_s", "crash")


class Standin:
    """One stand-in driver, steered by one file."""

    def __init__(self, file: Path, library_folder: Path) -> None:
        self.file = file
        self._values: dict[str, object] = {}
        paths = [str(library_folder), os.environ.get("LD_LIBRARY_PATH", "")]
        self.env: dict[str, str] = {
            VARIABLE: str(file),
            "LD_LIBRARY_PATH": ":".join(path for path in paths if path),
        }
        """What a child process needs in its environment; it finds the stand-in where the real library would be."""

    def set(self, gpu: int = 0, **values: object) -> None:
        """Change values from the next call on, in every process at once; None takes a value back."""
        for key, value in values.items():
            name = key if key in _DRIVER_KEYS else f"{gpu}.{key}"
            if value is None:
                self._values.pop(name, None)
            else:
                self._values[name] = value
        aside = self.file.with_suffix(".new")
        aside.write_text("".join(f"{key} = {value}\n" for key, value in self._values.items()))
        aside.replace(self.file)

    def popen(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        """Start python with these arguments in the repository, seeing the stand-in and what else `env` names.

        What the test's own environment says of CUDA does not reach it: it is `env`'s to say.
        """
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("CUDA_")}
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=REPOSITORY,
            env={**inherited, **self.env, **env},
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, code: str, **env: str) -> str:
        """What `code` prints in a child process that sees the stand-in; a failure there fails the test."""
        with self.popen("-c", code, **env) as child:
            output, _ = child.communicate(timeout=60)
        assert child.returncode == 0, output
        return output


@functools.cache
def _library_folder() -> Path:
    """The compiled stand-in's folder, made once a process; skips the test where there is no C compiler."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler: NVML's stand-in cannot be built")
    folder = Path(tempfile.mkdtemp(prefix="nvml-standin-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    source = Path(__file__).with_name("nvml.c")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-o", str(library), str(source), "-lm"], check=True
    )
    return folder


def build(tmp: Path, **values: object) -> Standin:
    """A stand-in with one GPU and these values; `tmp` holds the file that steers it."""
    standin = Standin(tmp / "nvml.txt", _library_folder())
    standin.set(**values)
    return standin
