"""The preflight's verdicts, worded as the engine words them, and the programs that are in the way."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from engine.records import Check, Closing, ClosingReport, Figure, OpenProcess, OpenProcesses
from tests.tui.recorded.facts import NOW

MIB = 2**20
_FREE_BYTES = 1_300 * MIB
_NEEDED_BYTES = 1_176_732_160
"""By the plan of a model of 15 million parameters."""
WAITING = "Made once nothing else blocks the start."
"""What is said of a rehearsal that is not made."""
ASLEEP = (
    "Nothing keeps the machine from falling asleep when it is idle or its lid is shut. Failed to inhibit: Interactive "
    "authentication required."
)


def _check(check_id: str, title: str, state: Any, evidence: str, remedy: str = "", **more: Any) -> Check:
    return Check(
        id=check_id,
        title=title,
        status=state,
        blocking=state == "fail",
        evidence=evidence,
        remedy=remedy,
        at=NOW,
        seconds=0.1,
        **more,
    )


def _figure(label: str, unit: Any, now: float, **more: Any) -> Figure:
    return Figure(label=label, unit=unit, now=now, **more)


REHEARSED = _check(
    "rehearsal",
    "Rehearsal",
    "pass",
    "In 14.2 s, with micro-batch 1: a step would take 0.769 s (21,300 tokens/s), the validation of a batch took 0.21 "
    "s, a save of 123 MB 0.9 s, a load 0.3 s; at most 0.62 GiB of GPU memory.",
    figures=(
        _figure("step", "s", 0.769),
        _figure("validation of a batch", "s", 0.21),
        _figure("save", "s", 0.9),
        _figure("load", "s", 0.3),
        _figure("GPU memory", "bytes", 634 * MIB, needed=1_235 * MIB),
        _figure("speed", "tokens_per_s", 21_300),
    ),
)


def _programs(is_blocking: bool) -> tuple[Check, Check]:
    """Who holds GPU memory, and what is left of it."""
    stay = (
        "2 to leave open: gnome-shell (pid 1187, ana, 0.23 GiB GPU memory, open for 2 h), jupyter-lab (pid 901, bob, "
        "96.0 MiB GPU memory, open for 2 h)."
    )
    if is_blocking:
        close_apps = _check(
            "close-apps",
            "Close applications",
            "fail",
            "3 to close: blender (pid 4410, ana, 1.86 GiB GPU memory, open for 3 d), firefox (pid 2210, ana, 0.18 GiB "
            f"GPU memory, open for 2 h), Web Content (pid 2377, ana, no GPU memory, open for 45 s); {stay}",
            "Close them, so that they neither hold memory nor draw power for days: llm-tui close",
            remedy_action="close-apps",
            figures=(
                _figure("programs to close", "count", 3, needed=0),
                _figure("VRAM held by programs", "bytes", 2_416 * MIB),
            ),
        )
    else:
        close_apps = _check(
            "close-apps",
            "Close applications",
            "pass",
            f"None to close; {stay}",
            figures=(
                _figure("programs to close", "count", 0, needed=0),
                _figure("VRAM held by programs", "bytes", 336 * MIB),
            ),
        )
    free, before = ("1.27 GiB", "") if is_blocking else ("3.30 GiB", " (1.27 GiB 4 min ago)")
    free_vram = _check(
        "free-vram",
        "VRAM free",
        "pass",
        f"{free} of 4.00 GiB free{before}, the run needs 1.10 GiB. llm-tui itself holds none.",
        figures=(
            _figure(
                "VRAM free",
                "bytes",
                _FREE_BYTES if is_blocking else 3_380 * MIB,
                before=_FREE_BYTES,
                needed=_NEEDED_BYTES,
            ),
        ),
    )
    return close_apps, free_vram


def _power(is_blocking: bool) -> Check:
    if not is_blocking:
        return _check(
            "power",
            "Power supply",
            "pass",
            "On the mains, battery at 100%.",
            figures=(_figure("battery", "frac", 1.0),),
        )
    return _check(
        "power",
        "Power supply",
        "fail",
        "On battery, battery at 61%.",
        "Plug the machine in, or set preflight.require_ac_power = false.",
        figures=(_figure("battery", "frac", 0.61),),
    )


def checks(blocking: bool = True) -> list[Check]:
    """A preflight; two of its checks block if `blocking`, and the rehearsal waits for them."""
    machine = "machine power measured by battery, 31 W" if blocking else "machine power partly measured, 38 W"
    rehearsal = replace(REHEARSED, status="skipped", evidence=WAITING, figures=()) if blocking else REHEARSED
    return [
        _check(
            "settings",
            "Settings",
            "pass",
            "settings.toml is valid: model 15m with 13,768,320 parameters, 100,007,936 tokens in 6,104 steps.",
        ),
        _check(
            "corpus",
            "Corpus",
            "pass",
            "builtin:python: 1,672 files, 12.9 MB, about 3.9 million tokens for a vocabulary of 8,192; the run reads "
            "them 25.6 times.",
            figures=(_figure("text", "bytes", 12_900_000, needed=16_384),),
        ),
        _check(
            "device",
            "Device and torch",
            "pass",
            "NVIDIA GeForce RTX 2050, compute capability 8.6, driver 580.65.06 for CUDA up to 13.0, torch 2.13.0+cu130 "
            "built for CUDA 13.0, trains in bf16.",
        ),
        *_programs(blocking),
        _check(
            "memory",
            "Memory",
            "pass",
            "11.00 GiB of 15.31 GiB RAM free, the run needs 1.00 GiB; 2.00 GiB of 2.00 GiB swap free.",
            figures=(
                _figure("RAM free", "bytes", 11_264 * MIB, needed=1_024 * MIB),
                _figure("swap free", "bytes", 2_048 * MIB),
            ),
        ),
        _check(
            "disk",
            "Disk for checkpoints",
            "pass",
            "41.20 GiB free on / (ext4); at its peak the run needs 0.40 GiB there: 3 checkpoints of 0.11 GiB, one of "
            "them being written, the model 52.5 MiB, the tokens 7.4 MiB. 0.50 GiB are to stay free.",
            figures=(_figure("disk free", "bytes", 42_189 * MIB, needed=923 * MIB),),
        ),
        _power(blocking),
        _check(
            "sleep",
            "Sleep and lid",
            "warn",
            ASLEEP,
            "Turn automatic suspend off for the time of the run: sudo systemctl mask sleep.target suspend.target; over "
            "SSH an ordinary user may not take the lock, at the machine itself they may.",
        ),
        _check(
            "logout",
            "Survives logout",
            "pass",
            "The run is set free by systemd-scope: the user lingers, so the user manager outlives every login.",
        ),
        _check(
            "sensors",
            "Sensors",
            "pass",
            "GPU temperature measured, 52 °C; GPU power measured by nvml, 9 W; CPU temperature measured, 48 °C; CPU "
            f"power estimated, 14 W; {machine}.",
        ),
        _check(
            "temperature",
            "Start temperature",
            "pass",
            "The GPU is at 52 °C.",
            figures=(_figure("GPU", "celsius", 52, needed=70),),
        ),
        _check("device-free", "No other run", "pass", "No run holds this device."),
        rehearsal,
        _check("notify", "Notifications arrive", "skipped", "None is set: notify.url is empty."),
        _check(
            "manual-1",
            "laptop on a hard surface, fan free",
            "pass",
            "Ticked by hand: laptop on a hard surface, fan free",
        ),
    ]


def unticked() -> list[Check]:
    """A clear preflight but for a step of the person's own; the rehearsal waits for it."""
    found = checks(blocking=False)
    found[-1] = replace(
        found[-1],
        status="fail",
        blocking=True,
        evidence="Not ticked: laptop on a hard surface, fan free",
        remedy="See that it is so, then tick it: --tick manual-1",
        remedy_action="tick",
    )
    return found


def program(pid: int, name: str, **changes: Any) -> OpenProcess:
    """A program that may be closed."""
    base = OpenProcess(
        pid=pid,
        started_s=float(pid),
        name=name,
        user="ana",
        gpu_bytes=300 * MIB,
        rss_bytes=900 * MIB,
        age_s=7_300.0,
        is_unwanted=True,
        may_close=True,
    )
    return replace(base, **changes)


def opened_programs() -> OpenProcesses:
    """A desktop on which some programs hold the GPU."""
    return OpenProcesses(
        processes=(
            program(4410, "blender", gpu_bytes=1_900 * MIB, rss_bytes=3 * 2**30, age_s=260_000.0),
            program(
                1187,
                "gnome-shell",
                gpu_bytes=240 * MIB,
                is_unwanted=False,
                may_close=False,
                why_not="It draws the desktop: every window would close with it.",
            ),
            program(2210, "firefox", gpu_bytes=180 * MIB),
            program(
                901,
                "jupyter-lab",
                user="bob",
                gpu_bytes=96 * MIB,
                is_unwanted=False,
                may_close=False,
                why_not="It belongs to bob.",
            ),
            program(2377, "Web Content", gpu_bytes=0, rss_bytes=420 * MIB, age_s=45.0),
        ),
        free_bytes=_FREE_BYTES,
        note="",
    )


def closings(*outcomes: tuple[OpenProcess, Any], **changes: Any) -> ClosingReport:
    """What came of closing programs: each with its outcome; what those held that were closed came free."""
    reasons = {
        "still-there": "It has not ended within 5 s; it can be killed, without saving its work.",
        "refused": "This user may not end it.",
        "gone": "It had ended already.",
    }
    freed = sum(process.gpu_bytes or 0 for process, outcome in outcomes if outcome == "closed")
    report = ClosingReport(
        closings=tuple(
            Closing(
                process=process,
                outcome=outcome,
                reason=reasons.get(outcome, ""),
                waited_s=5.0 if outcome == "still-there" else 0.4,
            )
            for process, outcome in outcomes
        ),
        free_before_bytes=_FREE_BYTES,
        free_after_bytes=_FREE_BYTES + freed,
    )
    return replace(report, **changes)
