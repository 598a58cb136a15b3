"""The real pynvml against the stand-in driver, in a child process for each test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.nvml_standin import UUID, Standin, build

STEER = """
import json, os, sys, time
from pathlib import Path
from engine.telemetry.gpus import snapshot
from engine.telemetry.nvml import Nvml
def steer(text):
    file = Path(os.environ["LLM_TUI_NVML_STANDIN"])
    file.with_suffix(".child").write_text(text)
    file.with_suffix(".child").replace(file)
"""


def answer(standin: Standin, code: str) -> object:
    return json.loads(standin.run(STEER + code))


def test_values_arrive_in_si_units(tmp_path: Path) -> None:
    standin = build(tmp_path, celsius=61, power_mw=23_456, counter_mj=7_654_321, limit_mw=45_000, util_pct=87)
    found = answer(
        standin,
        "import msgspec; print(msgspec.json.encode(snapshot()).decode())",
    )
    assert isinstance(found, dict)
    (gpu,) = found["gpus"]
    assert gpu["gpu"] == {
        "index": 0,
        "uuid": UUID,
        "name": "NVIDIA GeForce RTX 2050",
        "capability": [8, 6],
        "slowdown_celsius": 97.0,
        "shutdown_celsius": 102.0,
        "driver_version": "580.65.06",
        "driver_cuda": [13, 0],
    }
    assert (gpu["celsius"], gpu["watts"], gpu["limit_watts"]) == (61.0, 23.456, 45.0)
    assert (gpu["counter_j"], gpu["util_frac"]) == (7654.321, 0.87)
    assert gpu["memory_total_bytes"] == 4 << 30
    assert gpu["memory_used_bytes"] + gpu["memory_free_bytes"] == 4 << 30
    assert found["processes"] == [] and found["reason"] == ""


def test_what_is_not_supported_is_none_and_never_zero(tmp_path: Path) -> None:
    keys = (
        "name uuid capability celsius slowdown_celsius shutdown_celsius power_mw limit_mw util_pct counter_mj"
        " memory_used_bytes compute throttle clock_mhz memory_clock_mhz fan_pct"
    )
    standin = build(tmp_path, **{key: "err:3" for key in keys.split()})
    found = answer(standin, "import msgspec; print(msgspec.json.encode(snapshot()).decode())")
    assert isinstance(found, dict)
    (gpu,) = found["gpus"]
    identity = gpu.pop("gpu")
    assert gpu.pop("is_lost") is False
    assert set(gpu.values()) == {None}
    assert (identity["uuid"], identity["name"]) == ("gpu-0", "NVIDIA GPU")
    assert identity["capability"] is None and identity["slowdown_celsius"] is None
    assert found["processes"] is None


def test_processes_keep_an_unknown_memory_unknown(tmp_path: Path) -> None:
    standin = build(tmp_path, compute="11:1000 12:na 13:500", graphics="13:700 14:na")
    found = answer(
        standin, "print(json.dumps([[p.pid, p.used_bytes, p.kind] for p in snapshot().processes]))"
    )
    assert found == [
        [11, 1000, "compute"],
        [12, None, "compute"],
        [13, 700, "both"],
        [14, None, "graphics"],
    ]


def test_a_lost_gpu_is_used_again_while_the_other_never_stops(tmp_path: Path) -> None:
    standin = build(tmp_path, devices=2)
    code = """
now_s = 0.0
nvml = Nvml(clock=lambda: now_s)
def look(): print_out.append([[r.is_lost, r.watts] for r in nvml.read()] + [nvml.has_unreadable_gpu])
print_out = []
look()
steer("devices = 2\\n1.lost = 1\\n"); look()
now_s = 1.5; look()                       # tried again in vain
steer("devices = 2\\n1.power_mw = 30000\\n"); now_s = 2.0; look()
now_s = 3.0; look()
nvml.close()
print(json.dumps(print_out))
"""
    found = answer(standin, code)
    well, lost = [False, 25.0], [True, None]
    assert found == [
        [well, well, False],
        [well, lost, True],
        [well, lost, True],
        [well, lost, True],
        [well, [False, 30.0], False],
    ]


@pytest.mark.parametrize(
    ("values", "words", "has_gpu"),
    [
        ({"init": 18}, "restart the machine", True),
        ({"init": 9}, "no NVIDIA driver is loaded", False),
        ({"init": 4}, "may not read", True),
        ({"init": 999}, "answered with an error", True),
        ({"devices": 0}, "sees no GPU", False),
        ({"lost": 1}, "lost", True),
    ],
)
def test_no_gpu_is_an_empty_list_and_a_reason(
    tmp_path: Path, values: dict[str, object], words: str, has_gpu: bool
) -> None:
    standin = build(tmp_path, **values)
    found = answer(
        standin, "s = snapshot(); print(json.dumps([s.reason, s.has_unreadable_gpu, len(s.gpus)]))"
    )
    assert isinstance(found, list)
    assert words.lower() in found[0].lower()
    assert found[1:] == [has_gpu, 0]


def test_a_gpu_that_stays_away_is_looked_for_less_and_less(tmp_path: Path) -> None:
    standin = build(tmp_path)
    code = """
import engine.telemetry.nvml as nvml_module
now_s, tries = 0.0, []
nvml, call = Nvml(clock=lambda: now_s), nvml_module._call
def counted(name, *arguments):
    if name == "nvmlInit": tries.append(now_s)
    return call(name, *arguments)
nvml_module._call = counted
nvml.read(); steer("0.lost = 1\\n")
for second in range(600): now_s = float(second); nvml.read()
steer(""); now_s += 31.0
print(json.dumps([len([t for t in tries if t <= 12]), len(tries), nvml.read()[0].watts]))
"""
    early, in_all, watts = answer(standin, code)  # type: ignore[misc]
    assert early >= 9 and in_all < 45 and watts == 25.0


def test_a_driver_that_comes_later_is_found_without_a_restart(tmp_path: Path) -> None:
    standin = build(tmp_path, init=9)
    code = """
now_s = 0.0
nvml = Nvml(clock=lambda: now_s)
out = [[len(nvml.read()), nvml.reason]]
steer(""); now_s = 0.5; out.append([len(nvml.read()), nvml.reason != ""])
now_s = 2.0; out.append([len(nvml.read()), nvml.reason])
print(json.dumps(out))
"""
    assert answer(standin, code) == [[0, "No NVIDIA driver is loaded."], [0, True], [1, ""]]


def test_a_snapshot_of_a_hanging_driver_is_a_reason_and_no_thread(tmp_path: Path) -> None:
    standin = build(tmp_path, hang_s=100)
    code = """
import threading
began_s = time.monotonic()
reasons = [snapshot(timeout_s=0.4).reason for _ in range(3)]
print(json.dumps([reasons[-1], time.monotonic() - began_s < 3, threading.active_count()]))
"""
    assert answer(standin, code) == ["The NVIDIA driver has not answered for 0.4 s.", True, 1]


@pytest.mark.parametrize(
    ("how", "word"), [("segv", "SIGSEGV"), ("abort", "SIGABRT"), ("exit", "exit code 3")]
)
def test_a_snapshot_of_a_driver_that_crashes_is_a_reason(tmp_path: Path, how: str, word: str) -> None:
    standin = build(tmp_path, crash=how)
    found = answer(
        standin, "s = snapshot(); print(json.dumps([s.reason, s.has_unreadable_gpu, s.processes]))"
    )
    assert isinstance(found, list)
    assert "takes down" in found[0] and word in found[0]
    assert found[1:] == [True, None]


def test_clocks_fan_and_throttling_are_told_in_words(tmp_path: Path) -> None:
    standin = build(tmp_path, throttle=0x4 | 0x20 | 0x1 | 0x8000, clock_mhz=840, fan_pct=45)
    code = "g = snapshot().gpus[0]; print(json.dumps([g.throttles, g.clock_mhz, g.memory_clock_mhz, g.fan_frac]))"
    assert answer(standin, code) == [
        ["power limit", "thermal slowdown", "reason 0x8000"],
        840.0,
        5500.0,
        0.45,
    ]
    standin.set(throttle=1)
    assert answer(standin, "print(json.dumps(snapshot().gpus[0].throttles))") == []
