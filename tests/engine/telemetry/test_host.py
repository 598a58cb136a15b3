"""The machine's own sensors, from trees of real files, and once from the machine itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.telemetry import host
from engine.telemetry.battery import Battery, read_battery
from engine.telemetry.cpu import CpuLoad
from engine.telemetry.rapl import Rapl


def write(root: Path, files: dict[str, object]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


RAPL = "sys/class/powercap/intel-rapl:"


def test_rapl_adds_up_the_packages_alone_and_wraps(tmp_path: Path) -> None:
    now_s = 100.0
    write(
        tmp_path,
        {
            f"{RAPL}0/name": "package-0",
            f"{RAPL}0/energy_uj": 262_143_000_000,
            f"{RAPL}0/max_energy_range_uj": 262_143_328_850,
            f"{RAPL}1/name": "package-1",
            f"{RAPL}1/energy_uj": 1_000_000,
            f"{RAPL}1/max_energy_range_uj": 262_143_328_850,
            f"{RAPL}2/name": "psys",
            f"{RAPL}2/energy_uj": 5,
            f"{RAPL}0:0/name": "core",
            f"{RAPL}0:0/energy_uj": 7,
        },
    )
    rapl = Rapl(tmp_path, clock=lambda: now_s)
    assert rapl.watts() is None and rapl.reason == ""
    now_s = 102.0
    write(
        tmp_path,
        {f"{RAPL}0/energy_uj": 39_671_150, f"{RAPL}1/energy_uj": 21_000_000, f"{RAPL}2/energy_uj": 9e9},
    )
    assert rapl.watts() == pytest.approx((40.0 + 20.0) / 2, abs=1e-6)
    now_s = 1000.0
    assert rapl.watts() is None


def test_rapl_that_cannot_be_read_or_is_not_there_says_why(tmp_path: Path) -> None:
    rapl = Rapl(tmp_path)
    assert rapl.watts() is None and "no RAPL" in rapl.reason
    write(tmp_path, {f"{RAPL}0/name": "package-0"})
    (tmp_path / f"{RAPL}0/energy_uj").mkdir()  # root may read any file: a folder is refused to everyone
    rapl = Rapl(tmp_path)
    assert rapl.watts() is None and "energy_uj cannot be read" in rapl.reason


SUPPLY = "sys/class/power_supply/"


def test_a_battery_that_feeds_the_machine(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            f"{SUPPLY}AC/type": "Mains",
            f"{SUPPLY}AC/online": 0,
            f"{SUPPLY}BAT0/type": "Battery",
            f"{SUPPLY}BAT0/status": "Discharging",
            f"{SUPPLY}BAT0/energy_now": 30_000_000,
            f"{SUPPLY}BAT0/energy_full": 40_000_000,
            f"{SUPPLY}BAT0/power_now": -21_500_000,
            f"{SUPPLY}hid/type": "Battery",
            f"{SUPPLY}hid/scope": "Device",
            f"{SUPPLY}hid/status": "Discharging",
            f"{SUPPLY}hid/capacity": 3,
        },
    )
    assert read_battery(tmp_path) == Battery(fraction=0.75, discharge_watts=21.5, is_on_ac=False)


def test_a_battery_in_amperes_and_one_without_a_power(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            f"{SUPPLY}BAT1/type": "Battery",
            f"{SUPPLY}BAT1/status": "Discharging",
            f"{SUPPLY}BAT1/charge_now": 1_000_000,
            f"{SUPPLY}BAT1/charge_full": 4_000_000,
            f"{SUPPLY}BAT1/current_now": 2_000_000,
            f"{SUPPLY}BAT1/voltage_now": 11_000_000,
        },
    )
    assert read_battery(tmp_path) == Battery(fraction=0.25, discharge_watts=22.0, is_on_ac=False)
    write(tmp_path, {f"{SUPPLY}BAT1/current_now": 0})
    assert read_battery(tmp_path).discharge_watts is None


def test_mains_without_and_with_a_full_battery(tmp_path: Path) -> None:
    assert read_battery(tmp_path) == Battery()
    write(
        tmp_path,
        {f"{SUPPLY}BAT0/type": "Battery", f"{SUPPLY}BAT0/status": "Full", f"{SUPPLY}BAT0/capacity": 100},
    )
    assert read_battery(tmp_path) == Battery(fraction=1.0, discharge_watts=None, is_on_ac=True)


MEMINFO = (
    "MemTotal: 16000000 kB\nMemFree: 1000 kB\nMemAvailable: 8000000 kB\nSwapTotal: 2000 kB\nSwapFree: 1500 kB"
)


def test_memory_without_a_limit_is_the_ram(tmp_path: Path) -> None:
    write(tmp_path, {"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/", "sys/fs/cgroup/memory.max": "max"})
    found = host.memory(tmp_path)
    assert (found.total_bytes, found.available_bytes, found.source) == (16_384_000_000, 8_192_000_000, "ram")
    assert (found.swap_total_bytes, found.swap_free_bytes) == (2_048_000, 1_536_000)
    assert found.used_bytes == 8_192_000_000


@pytest.mark.parametrize(
    "files",
    [
        {
            "proc/self/cgroup": "0::/user.slice/run.scope",
            "sys/fs/cgroup/user.slice/memory.max": 2 * 2**30,
            "sys/fs/cgroup/user.slice/memory.current": 2**30,
            "sys/fs/cgroup/user.slice/memory.stat": f"anon 5\ninactive_file {2**29}",
            "sys/fs/cgroup/user.slice/run.scope/memory.max": "max",
        },
        {
            "proc/self/cgroup": "4:memory:/docker/abc\n0::/",
            "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": 2 * 2**30,
            "sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes": 2**30,
            "sys/fs/cgroup/memory/docker/abc/memory.stat": f"total_inactive_file {2**29}",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": 9223372036854771712,
        },
    ],
    ids=["v2, limit on the slice above", "v1"],
)
def test_a_control_group_bounds_the_memory(tmp_path: Path, files: dict[str, object]) -> None:
    write(tmp_path, {"proc/meminfo": MEMINFO, **files})
    found = host.memory(tmp_path)
    assert (found.total_bytes, found.available_bytes, found.source) == (2**31, 2**31 - 2**29, "cgroup")


def test_memory_is_unknown_without_its_file(tmp_path: Path) -> None:
    found = host.memory(tmp_path)
    assert (found.total_bytes, found.available_bytes, found.used_bytes) == (None, None, None)


def test_the_load_is_what_was_busy_in_between(tmp_path: Path) -> None:
    write(tmp_path, {"proc/stat": "cpu 100 0 100 800 0 0 0 0 0 0\ncpu0 1 2 3 4"})
    load = CpuLoad(tmp_path)
    assert load.fraction() is None
    write(tmp_path, {"proc/stat": "cpu 150 0 125 810 15 0 0 0 0 0\ncpu0 1 2 3 4"})
    assert load.fraction() == pytest.approx(0.75)


def test_the_cpus_name_and_temperature(tmp_path: Path) -> None:
    assert host.cpu_celsius(tmp_path) is None
    write(tmp_path, {"proc/cpuinfo": "processor : 0\nmodel name\t: AMD Ryzen 5 5500H\nflags: x"})
    assert host.cpu_name(tmp_path) == "AMD Ryzen 5 5500H"
    write(
        tmp_path,
        {
            "sys/class/thermal/thermal_zone0/type": "x86_pkg_temp",
            "sys/class/thermal/thermal_zone0/temp": 48000,
        },
    )
    assert host.cpu_celsius(tmp_path) == 48.0
    monitor = "sys/class/hwmon/hwmon3/"
    write(
        tmp_path,
        {f"{monitor}name": "k10temp", f"{monitor}temp1_input": 71500, f"{monitor}temp1_label": "Tctl"},
    )
    write(tmp_path, {f"{monitor}temp2_input": 61250, f"{monitor}temp2_label": "Tdie"})
    write(tmp_path, {"sys/class/hwmon/hwmon0/name": "nvme", "sys/class/hwmon/hwmon0/temp1_input": 90000})
    assert host.cpu_celsius(tmp_path) == 61.25


def test_the_disk_of_a_path_that_is_not_there_yet(tmp_path: Path) -> None:
    mounts = (
        "21 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        f"22 21 8:2 / {tmp_path.resolve()} rw - btrfs /dev/sdb rw\n"
        f"23 21 8:3 / {tmp_path.resolve()}x rw - xfs /dev/sdc rw"
    )
    write(tmp_path, {"proc/self/mountinfo": mounts})
    found = host.disk(tmp_path / "not" / "yet", root=tmp_path)
    assert found is not None
    assert (found.file_system, found.mount_point) == ("btrfs", str(tmp_path.resolve()))
    assert 0 < found.free_bytes <= found.total_bytes
    assert host.disk_free_bytes(tmp_path / "none") == pytest.approx(found.free_bytes, rel=0.05)


def test_this_very_machine_answers() -> None:
    ram = host.memory()
    assert ram.total_bytes and ram.available_bytes and 0 < ram.available_bytes <= ram.total_bytes
    assert host.num_physical_cores() >= 1
    assert host.cpu_name()
    assert (there := host.disk(Path.cwd())) is not None and there.file_system
