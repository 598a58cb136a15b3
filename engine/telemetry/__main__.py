"""The sensors as processes of their own, all printing JSON.

`python -m engine.telemetry [COUNT [INTERVAL_S]]`: readings of every sensor, one a line, for looking at what a machine
tells. `... gpus INTERVAL_S`: the GPUs, a line a sample, until the input ends. `... snapshot`: the GPUs once, and who
holds their memory.
"""

from __future__ import annotations

import sys
import time

import msgspec

from engine.telemetry.gpu_loop import stream
from engine.telemetry.nvml import read_snapshot


def main(arguments: list[str]) -> int:
    """Do what the module says; exit status 0."""
    if arguments[:1] == ["gpus"]:
        stream(float(arguments[1]))
    elif arguments[:1] == ["snapshot"]:
        sys.stdout.write(msgspec.json.encode(read_snapshot()).decode())
    else:
        print_readings(arguments)
    return 0


def print_readings(arguments: list[str]) -> None:
    """Print COUNT readings (1), INTERVAL_S (1.0) apart."""
    from engine.settings import EnergySettings
    from engine.telemetry.sampler import Sampler

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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
