"""`python -m engine.telemetry [COUNT [INTERVAL_S]]`: prints readings of every sensor as JSON, one a line.

For looking at what a machine tells, and for tests of the whole path.
"""

from __future__ import annotations

import sys
import time

import msgspec

from engine.settings import EnergySettings
from engine.telemetry.sampler import Sampler


def main(arguments: list[str]) -> int:
    """Print COUNT readings (1), INTERVAL_S (1.0) apart; exit status 0."""
    count = int(arguments[0]) if arguments else 1
    interval_s = float(arguments[1]) if len(arguments) > 1 else 1.0
    sampler = Sampler(EnergySettings(), interval_s=interval_s)
    sampler.wait_ready()
    for index in range(count):
        if index:
            time.sleep(interval_s)
        reading = sampler.read()
        document = msgspec.to_builtins(reading)
        document["gpus"] = {uuid: power._asdict() for uuid, power in reading.gpus.items()}
        sys.stdout.write(msgspec.json.encode(document).decode() + "\n")
        sys.stdout.flush()
    sampler.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
