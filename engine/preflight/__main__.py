"""`python -m engine.preflight WORKSPACE`: one `Check` as JSON a line, as each verdict is known.

With `--device`: the device that a run would train on, as one JSON document, and no checks.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from types import FrameType

import msgspec

from engine.errors import EngineError
from engine.preflight.context import Context
from engine.preflight.run import run

CANCELLED = 143
"""What a shell reports of a program that SIGTERM ended."""


def main() -> int:
    """Run the checks that the arguments ask for; exit code 2 where they cannot be run at all."""
    parser = argparse.ArgumentParser(prog="engine.preflight")
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--settings", type=Path)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--waive", action="append", default=[])
    parser.add_argument("--tick", action="append", default=[])
    parser.add_argument("--device", action="store_true")
    arguments = parser.parse_args()
    waivers = dict(waiver.split("=", 1) for waiver in arguments.waive)
    context = Context(
        arguments.workspace, arguments.settings, tuple(arguments.set), arguments.run, arguments.tick
    )
    signal.signal(signal.SIGTERM, _cancel)
    try:
        if arguments.device:
            sys.stdout.buffer.write(msgspec.json.encode(context.device) + b"\n")
            return 0
        for check in run(context, waivers):
            sys.stdout.buffer.write(msgspec.json.encode(check) + b"\n")
            sys.stdout.buffer.flush()
    except EngineError as error:
        sys.stderr.write(f"{error}\n")
        return int(error.exit_code)
    except (KeyboardInterrupt, BrokenPipeError):
        # Nobody reads on; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 130
    finally:
        context.close()
    return 0


def _cancel(number: int, frame: FrameType | None) -> None:
    """End through the `finally` above, which takes along what the checks have started."""
    raise SystemExit(CANCELLED)


if __name__ == "__main__":
    sys.exit(main())
