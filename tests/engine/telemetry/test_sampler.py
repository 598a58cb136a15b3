"""The sampler as a whole: real threads, the real pynvml, the stand-in driver."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.settings import EnergySettings
from engine.telemetry.battery import Battery
from engine.telemetry.gpus import has_library
from engine.telemetry.power import CpuPower, FreezeWatch, PowerSum, beat_s, cpu_power, machine_power
from engine.telemetry.reading import ceiling_watts
from tests.nvml_standin import REPOSITORY, UUID, build

ENERGY = EnergySettings(cpu_rated_watts=40.0, rest_of_machine_watts=20.0, psu_efficiency_frac=0.8)
SAMPLE = """
import json, os, sys, threading, time
from pathlib import Path
from engine.settings import EnergySettings
from engine.telemetry.sampler import Sampler
def steer(text):
    file = Path(os.environ["LLM_TUI_NVML_STANDIN"])
    file.with_suffix(".child").write_text(text)
    file.with_suffix(".child").replace(file)
sampler = Sampler(EnergySettings(), interval_s=0.3)
sampler.wait_ready(10.0)
def read(): return sampler.read()
"""


def test_the_program_prints_a_reading_as_json(tmp_path: Path) -> None:
    standin = build(tmp_path, power_mw=20_000, celsius=50)
    with standin.popen("-m", "engine.telemetry", "2", "0.4") as child:
        lines = child.communicate(timeout=30)[0].splitlines()
    reading = json.loads(lines[1])
    row = reading["row"]
    assert child.returncode == 0
    assert (row["gpu_celsius"], row["gpu_limit_watts"], row["gpu_watts_source"]) == (50.0, 35.0, "nvml")
    assert row["gpu_watts"] == pytest.approx(20.0)
    assert reading["gpus"][UUID]["watts"] == pytest.approx(20.0)
    assert reading["gpus"][UUID]["counter_j"] == pytest.approx(1000, rel=0.1)
    machine_watts = (20.0 + row["cpu_watts"] + 15.0) / 0.88
    assert row["machine_watts"] == pytest.approx(machine_watts)
    assert row["machine_watts_source"] == "partly measured"
    assert row["at"] == pytest.approx(time.time(), abs=30)


def test_a_hanging_driver_delays_no_reading_and_is_unknown_until_it_answers(tmp_path: Path) -> None:
    standin = build(tmp_path)
    code = """
before = read().row.gpu_watts
steer("hang_s = 3\\n")
time.sleep(0.4)
steer("")
worst_s, values, began_s = 0.0, [], time.monotonic()
while time.monotonic() - began_s < 3.6:
    asked_s = time.perf_counter()
    row = read().row
    worst_s = max(worst_s, time.perf_counter() - asked_s)
    values.append((row.gpu_watts, row.machine_watts, row.cpu_watts))
    time.sleep(0.1)
unknown = [v for v in values if v[0] is None]
print(json.dumps([before, worst_s, len(unknown), all(v[1] is None and v[2] for v in unknown), values[-1][0],
    threading.active_count()]))
sampler.close()
"""
    before, worst_s, num_unknown, is_machine_unknown, after, threads = json.loads(standin.run(SAMPLE + code))
    assert before == after == 25.0
    assert worst_s < 0.02
    assert num_unknown >= 10
    assert is_machine_unknown
    assert threads == 3


def test_a_lost_gpu_is_unknown_at_once_and_comes_back(tmp_path: Path) -> None:
    standin = build(tmp_path)
    code = """
out = [read().gpus]
steer("0.lost = 1\\n"); time.sleep(0.7); lost = read()
steer(""); time.sleep(2.5); back = read()
uuid = next(iter(out[0]))
print(json.dumps([uuid, out[0][uuid].watts, lost.gpus[uuid][:3], lost.row.machine_watts, lost.reasons["gpu"],
    back.gpus[uuid].watts, back.reasons.get("gpu")]))
sampler.close()
"""
    found = json.loads(standin.run(SAMPLE + code))
    assert found[:4] == [UUID, 25.0, [None, None, None], None]
    assert "lost" in found[4]
    assert found[5:] == [25.0, None]


def test_a_driver_that_crashes_takes_nothing_along_and_is_used_again(tmp_path: Path) -> None:
    standin = build(tmp_path)
    code = """
first_pid, before = sampler.reader_pid, read().row.gpu_watts
steer("crash = segv\\n"); time.sleep(0.8); crashed = read()
time.sleep(2.5); still = read()
steer(""); deadline_s = time.monotonic() + 15
while read().row.gpu_watts is None and time.monotonic() < deadline_s: time.sleep(0.1)
after = read()
print(json.dumps([before, crashed.row.gpu_watts, crashed.row.machine_watts, crashed.reasons["gpu"],
    still.row.gpu_watts, still.row.cpu_watts is not None, after.row.gpu_watts, after.reasons.get("gpu"),
    threading.active_count(), sampler.reader_pid not in (None, first_pid)]))
sampler.close()
"""
    found = json.loads(standin.run(SAMPLE + code))
    assert found[:3] == [25.0, None, None]
    assert "SIGSEGV" in found[3]
    assert found[4:] == [None, True, 25.0, None, 3, True]


def test_a_driver_that_hangs_for_ever_is_given_up_and_asked_anew(tmp_path: Path) -> None:
    standin = build(tmp_path)
    code = """
import engine.telemetry.gpus as gpus
gpus.HUNG_S = 1.0
first_pid, before = sampler.reader_pid, read().row.gpu_watts
steer("hang_s = 1000000\\n"); time.sleep(0.5); steer("")
deadline_s = time.monotonic() + 15; time.sleep(1.5)
while read().row.gpu_watts is None and time.monotonic() < deadline_s: time.sleep(0.1)
print(json.dumps([before, read().row.gpu_watts, sampler.reader_pid != first_pid, Path(f"/proc/{first_pid}").exists()]))
sampler.close()
"""
    assert json.loads(standin.run(SAMPLE + code)) == [25.0, 25.0, True, False]


@pytest.mark.parametrize("hang_s", [0, 1000])
def test_the_reader_ends_with_its_parent_however_that_ends(tmp_path: Path, hang_s: int) -> None:
    standin = build(tmp_path)
    code = f"""
pid = sampler.reader_pid
steer("hang_s = {hang_s}\\n"); time.sleep(0.5)
print(pid, flush=True); os.kill(os.getpid(), 9)
"""
    with standin.popen("-c", SAMPLE + code) as child:
        pid = int(child.communicate(timeout=30)[0])
    deadline_s = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()


def test_no_process_is_started_where_no_driver_is_installed() -> None:
    code = (
        SAMPLE
        + """
r = read()
print(json.dumps([sampler.reader_pid, r.reasons["gpu"], r.gpus, r.row.machine_watts is not None]))
sampler.close()
"""
    )
    if has_library():
        pytest.skip("an NVIDIA driver is installed here")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [
        None,
        "No NVIDIA driver is installed (libnvidia-ml.so.1 is missing).",
        {},
        True,
    ]


def test_spikes_are_left_out_of_the_mean_and_a_frozen_value_is_no_power(tmp_path: Path) -> None:
    standin = build(tmp_path, spike="590000,5")
    code = """
time.sleep(0.6); read(); time.sleep(1.2); spiky = read()
steer("0.power_mw = 588000\\n0.true_mw = 8000\\n"); time.sleep(0.7); read(); time.sleep(0.9); frozen = read()
uuid = next(iter(spiky.gpus))
print(json.dumps([spiky.gpus[uuid], frozen.gpus[uuid], frozen.row.gpu_watts, frozen.row.gpu_watts_source,
    frozen.row.machine_watts is not None]))
sampler.close()
"""
    spiky, frozen, watts, source, has_machine = json.loads(standin.run(SAMPLE + code))
    assert spiky[0] == pytest.approx(25.0) and spiky[4] == 590.0
    assert frozen[0] is None and frozen[4] == 588.0
    assert watts == pytest.approx(8.0, rel=0.05)
    assert source == "counter" and has_machine


def test_a_driver_mismatch_makes_the_machine_unknown_and_no_driver_does_not(tmp_path: Path) -> None:
    code = "r = read(); print(json.dumps([r.gpus, r.row.machine_watts is None, r.reasons['gpu']])); sampler.close()"
    mismatch = json.loads(build(tmp_path, init=18).run(SAMPLE + code))
    assert mismatch[:2] == [{}, True] and "restart" in mismatch[2]
    absent = json.loads(build(tmp_path, devices=0).run(SAMPLE + code))
    assert absent[:2] == [{}, False]


def test_a_square_wave_that_runs_live_adds_up(tmp_path: Path) -> None:
    """Sensors to joules in one go: 6 s of 9 and 40 W every 0.7 s, without a counter."""
    standin = build(tmp_path, wave_mw="9000,40000,0.7", limit_mw=45_000, counter_mj="err:3")
    code = """
from engine.ledger.energy import EnergyMeter
meter, first_s = EnergyMeter(1, interval_s=0.5), None
for _ in range(13):
    reading = read(); meter.add(reading)
    first_s = first_s or reading.monotonic_s
    time.sleep(0.5)
step_s = 0.0005
steps = int((reading.monotonic_s - first_s) / step_s)
truth_j = sum((9 if (first_s + i * step_s) % 0.7 < 0.35 else 40) * step_s for i in range(steps))
row = meter.row(0.0)
print(json.dumps([truth_j, row.gpu_j, row.gpu_source, row.gap_s]))
sampler.close()
"""
    truth_j, gpu_j, source, gap_s = json.loads(standin.run(SAMPLE + code))
    assert gpu_j == pytest.approx(truth_j, rel=0.06)
    assert (source, gap_s) == ("integrated", 0.0)


def test_importing_the_sensors_loads_no_library() -> None:
    code = (
        "import sys, engine.telemetry.sampler, engine.telemetry.device, engine.telemetry.process, "
        "engine.ledger.energy; print([m for m in ('pynvml', 'psutil', 'torch', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_beat_meets_no_period_of_the_load() -> None:
    """Ten uneven samples a second find the mean of any square wave; even ones are 9 % off at 0.7 s."""
    for period_s in (0.2, 0.5, 0.7, 1.0):
        power = PowerSum()
        for count in range(1200):
            at_s = beat_s(count, 0.1)
            power.add(at_s, 9.0 if at_s % period_s < period_s / 2 else 40.0, 62.5)
        assert power.joules / power.seconds == pytest.approx(24.5, rel=0.01), period_s


def test_power_that_stands_still_while_the_load_changes_is_frozen_until_it_moves() -> None:
    watch = FreezeWatch()
    steady = [watch.is_frozen(20.0, 0.9) for _ in range(50)]
    assert not any(steady), "steady load, steady power"
    swinging = [watch.is_frozen(20.0, second % 2) for second in range(5)]
    assert swinging == [False, True, True, True, True] or swinging == [True] * 5
    assert not watch.is_frozen(20.4, 0.0)
    assert not any(watch.is_frozen(20.0 + second % 2, second % 2) for second in range(50)), "it follows"
    assert not any(watch.is_frozen(None, second % 2) for second in range(50))


def test_a_frozen_sensor_is_unknown_and_told(tmp_path: Path) -> None:
    standin = build(tmp_path, power_mw=20_000, counter_mj="err:3", util_pct=95)
    code = """
from engine.ledger.energy import EnergyMeter
meter, faults = EnergyMeter(1, interval_s=0.3), []
def follow(seconds):
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        reading = read(); meter.add(reading); faults.extend(meter.faults()); time.sleep(0.3)
    return reading.row
before = follow(2)
steer("0.power_mw = 20000\\n0.counter_mj = err:3\\n0.util_pct = 5\\n"); frozen = follow(4)
steer("0.power_mw = 6000\\n0.counter_mj = err:3\\n0.util_pct = 5\\n"); after = follow(2)
print(json.dumps([before.gpu_watts, frozen.gpu_watts, frozen.machine_watts, after.gpu_watts, faults]))
sampler.close()
"""
    before, frozen, machine, after, faults = json.loads(standin.run(SAMPLE + code))
    assert (before, frozen, machine) == (20.0, None, None)
    assert after == pytest.approx(6.0)
    assert len(faults) == 1 and "20.0 W all the time" in faults[0]


def test_the_ceiling_of_a_board_without_a_limit_is_by_its_name_or_its_memory() -> None:
    assert ceiling_watts(35.0) == 62.5
    assert 60 < ceiling_watts(None, 4 << 30, "NVIDIA GeForce RTX 2050") < 100
    assert ceiling_watts(None, 4 << 30, "NVIDIA GeForce RTX 3050 Laptop GPU") < 200
    assert ceiling_watts(None) > 1000


def test_the_machine_is_the_battery_or_the_sum_of_its_parts_and_never_a_guess() -> None:
    rapl, guess = cpu_power(30.0, 0.5, ENERGY), cpu_power(None, 0.5, ENERGY)
    assert rapl == (30.0, "rapl")
    assert guess == (pytest.approx(40.0 * (0.15 + 0.85 * 0.5)), "estimate")
    mains, cells = Battery(is_on_ac=True, discharge_watts=5.0), Battery(is_on_ac=False, discharge_watts=41.0)
    assert machine_power(30.0, True, rapl, mains, ENERGY)[:2] == ((30 + 30 + 20) / 0.8, "partly measured")
    assert machine_power(None, False, guess, mains, ENERGY).source == "estimate"
    assert machine_power(None, False, rapl, mains, ENERGY).source == "partly measured"
    assert machine_power(30.0, True, rapl, cells, ENERGY)[:2] == (41.0, "battery")
    assert machine_power(None, True, rapl, mains, ENERGY)[:2] == (None, None)
    assert machine_power(30.0, True, CpuPower(None, None), mains, ENERGY).watts is None
