"""One meter of GPU energy as a process: ours, Zeus or CodeCarbon, each as its own manual has it used.

Run: python -m bench.meters ours|zeus|codecarbon SECONDS. It says when it is ready, waits for a line, measures, and
prints one JSON document: the window on the monotonic clock and the joules, or why there are none.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.telemetry.reading import Reading

Answer = dict[str, Any]


def wait_for_go() -> None:
    """Say that all is imported and set up, and wait for the common start."""
    print("ready", flush=True)
    sys.stdin.readline()


def ours(seconds: float) -> Answer:
    """The sampler and the meter of the supervisor, at its rate of 1 Hz."""
    from engine.ledger.energy import EnergyMeter
    from engine.settings import EnergySettings
    from engine.telemetry.sampler import Sampler

    sampler, meter = Sampler(EnergySettings(), interval_s=1.0), EnergyMeter(1)
    sampler.wait_ready(10.0)
    wait_for_go()
    reading = sampler.read()
    begun_s = next_s = reading.monotonic_s
    begin_s = sampled_s(reading)
    faults: list[str] = []
    while True:
        meter.add(reading)
        faults += meter.faults()
        if reading.monotonic_s - begun_s >= seconds - 0.5:
            break
        next_s += 1.0
        time.sleep(max(0.0, next_s - time.monotonic()))
        reading = sampler.read()
    row = meter.row(0.0)
    sampler.close()
    gap_s = sum(gpu.gap_s for gpu in meter._gpus.values())
    return {
        "begin_s": begin_s,
        "end_s": sampled_s(reading),
        "joules": row.gpu_j,
        "gap_s": gap_s,
        "note": "; ".join([row.gpu_source or "unknown", *faults]),
    }


def sampled_s(reading: Reading) -> float:
    """When the GPU's sample in a reading was taken: the books lag behind by its age, a quarter of a second at most."""
    return next(
        (power.at_s for power in reading.gpus.values() if power.at_s is not None), reading.monotonic_s
    )


def zeus(seconds: float) -> Answer:
    """Zeus's monitor: a window from its begin to its end."""
    from zeus.monitor import ZeusMonitor

    monitor = ZeusMonitor(gpu_indices=[0], cpu_indices=[])
    wait_for_go()
    begin_s = time.monotonic()
    monitor.begin_window("bench", sync_execution=False)
    time.sleep(seconds)
    measured = monitor.end_window("bench", sync_execution=False)
    return {"begin_s": begin_s, "end_s": time.monotonic(), "joules": measured.gpu_energy[0], "note": ""}


def codecarbon(seconds: float) -> Answer:
    """CodeCarbon's offline tracker, sampling once a second."""
    from codecarbon import OfflineEmissionsTracker

    tracker = OfflineEmissionsTracker(
        country_iso_code="USA", measure_power_secs=1, save_to_file=False, log_level="critical"
    )
    tracker.start()  # takes seconds, and counts from its end
    begin_s = time.monotonic()
    wait_for_go()
    time.sleep(seconds)
    end_s = time.monotonic()
    tracker.stop()
    found = tracker._total_gpu_energy.kWh * 3.6e6
    return {"begin_s": begin_s, "end_s": end_s, "joules": found, "note": ""}


METERS: dict[str, Callable[[float], Answer]] = {"ours": ours, "zeus": zeus, "codecarbon": codecarbon}


def main(arguments: list[str]) -> None:
    """Measure; whatever a meter raises is its answer."""
    try:
        answer = METERS[arguments[0]](float(arguments[1]))
    except Exception as error:  # noqa: BLE001 -- another program's failure is a result here
        answer = {"failed": f"{type(error).__name__}: {error}".splitlines()[0][:120]}
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
