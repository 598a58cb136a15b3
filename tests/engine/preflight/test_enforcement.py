"""What the engine enforces: waivers, ticks, what cannot be waived, one run a device, verdicts that are taken over."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine import EngineError, Workspace
from engine.preflight import kept
from engine.preflight.context import Context, Verdict
from engine.preflight.inputs import check_corpus, check_settings
from engine.preflight.machine import _lasting, check_disk, check_memory
from engine.preflight.rehearsal import check_rehearsal, rehearsal_key
from engine.preflight.run import _carry_out, run
from engine.preflight.steps import STEPS
from engine.records import Check, EventRow
from engine.runs import folder as folders
from engine.runs.lock import REHEARSING, Lock, device_lock_path, holder
from tests.conftest import wait_for

Make = Callable[..., Workspace]
COMMAND = (sys.executable, "-m", "tui")


def found_by(workspace: Workspace, **named: object) -> dict[str, Check]:
    return {check.id: check for check in workspace.checks(**named)}  # type: ignore[arg-type]


def test_the_list_is_in_order_with_times_and_the_last_one_is_known(make_workspace: Make) -> None:
    workspace = make_workspace()
    assert workspace.known_checks() == ()
    checks = list(workspace.checks(overrides=['preflight.manual=["the fan is free"]'], ticks=["manual-1"]))
    assert [check.id for check in checks] == [*(step.id for step in STEPS), "manual-1"]
    assert all(check.at and check.seconds is not None for check in checks)
    assert checks[-1].evidence == "Ticked by hand: the fan is free"
    assert list(workspace.known_checks()) == checks


def test_what_names_nothing_or_cannot_be_waived_is_refused(make_workspace: Make) -> None:
    workspace = make_workspace()
    for waivers, ticks, words in (
        ({"nonsense": "because"}, (), "no check 'nonsense'"),
        ({"corpus": "because"}, (), "cannot be waived"),
        ({}, ("manual-1",), "manual-1"),
        ({}, ("power",), "power"),
    ):
        with pytest.raises(EngineError, match=words):
            found_by(workspace, waivers=waivers, ticks=ticks)
        with pytest.raises(EngineError, match=words):
            workspace.start(waivers=waivers, ticks=ticks)
    assert not folders.all_runs(workspace.folder)


def test_broken_settings_skip_the_rest_and_offer_to_write_some(tmp_path: Path) -> None:
    checks = {check.id: check for check in run(Context(tmp_path), {})}
    assert checks["settings"].blocking and checks["settings"].remedy_action == "write-settings"
    assert {check.status for check in checks.values()} == {"fail", "skipped"}
    workspace = Workspace(tmp_path)
    assert str(workspace.settings_path) in workspace.apply_remedy("write-settings")
    assert workspace.has_settings()
    with pytest.raises(EngineError):
        workspace.apply_remedy("tick")


def test_keys_without_an_effect_are_named(make_workspace: Make) -> None:
    workspace = make_workspace()
    assert check_settings(Context(workspace.folder)).status == "pass"
    text = workspace.settings_path.read_text()
    always = "[[energy.tariff]]\nfrom = '00:00'\nto = '24:00'\nprice_per_kwh = 0.1\n"
    night = "[[energy.tariff]]\nfrom = '22:00'\nto = '06:00'\nprice_per_kwh = 0.2\n"
    workspace.settings_path.write_text(
        f"{text}min_free_vram_gib = 2\n[cloud]\ncurrency_per_usd = 1.5\n{always}{night}"
    )
    verdict = check_settings(Context(workspace.folder, overrides=("limits.max_gpu_celsius=0",)))
    assert verdict.status == "warn"
    for words in ("min_free_vram_gib", "currency_per_usd", "window 2 of energy.tariff"):
        assert words in verdict.evidence
    assert "window 1" not in verdict.evidence and "resume_gpu_celsius" not in verdict.evidence


def test_a_corpus_that_is_small_for_its_vocabulary_or_validation_is_told(make_workspace: Make) -> None:
    folder = make_workspace().folder
    assert check_corpus(Context(folder)).status == "pass"
    many = check_corpus(Context(folder, overrides=("model.vocab_size=50000",)))
    assert many.status == "warn" and "fill a vocabulary of about" in many.evidence
    assert "Lower model.vocab_size" in many.remedy
    few = check_corpus(Context(folder, overrides=("corpus.validation_frac=0.0002",)))
    assert few.status == "warn" and "one context takes 65" in few.evidence
    assert check_corpus(Context(folder, overrides=("training.tokens_per_step=1024000",))).is_waivable is False


def test_a_budget_of_memory_is_a_setting_that_no_waiver_overrules(make_workspace: Make) -> None:
    verdict = check_memory(Context(make_workspace().folder, overrides=("limits.vram_budget_gib=0.001",)))
    assert (verdict.status, verdict.is_waivable) == ("fail", False)
    assert "the budget is 1.0 MiB" in verdict.evidence


def test_what_changed_since_the_person_looked_is_said(make_workspace: Make) -> None:
    workspace = make_workspace()
    seen = Check(id="disk", title="", status="pass", blocking=False, evidence="", at=time.time() - 12)
    kept.keep(workspace.folder, kept.Kept(checks=(seen,)))
    overrides = ("limits.min_free_disk_gib=900000",)
    for run_folder, is_said in ((None, False), (workspace.folder / "runs" / "one", True)):
        context = Context(workspace.folder, overrides=overrides, run_folder=run_folder)
        disk = _carry_out(STEPS[6], check_disk, context, {})
        assert disk.blocking and ("This check passed 12 s ago." in disk.evidence) == is_said


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 20 MB; skips the test where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def test_a_disk_of_20_mb(small_disk: Path, make_workspace: Make) -> None:
    text = make_workspace().folder / "text"
    tiny = [f"corpus.source={text}", "model.preset=tiny", "limits.min_free_disk_gib=0"]
    (small_disk / "settings.toml").write_text("")
    small = [
        "model.n_layer=1",
        "model.n_embd=64",
        "model.n_head=2",
        "model.n_kv_head=1",
        "model.intermediate=128",
    ]
    for overrides, status, is_waivable in (
        ([*tiny, *small, "model.vocab_size=512"], "warn", True),
        ([*tiny, *small, "model.vocab_size=512", "training.keep_checkpoints=99"], "fail", True),
        ([*tiny, "model.preset=15m"], "fail", False),
    ):
        verdict = check_disk(Context(small_disk, overrides=tuple(overrides)))
        assert (verdict.status, verdict.is_waivable) == (status, is_waivable), verdict.evidence
        assert "(tmpfs)" in verdict.evidence and " checkpoints of " in verdict.evidence
        assert verdict.figures[0].now == pytest.approx(20 * 2**20, rel=0.05)
    workspace = Workspace(small_disk)
    checks = found_by(
        workspace,
        overrides=[*tiny, "model.preset=15m", "preflight.rehearsal=false"],
        waivers={"disk": "it will do"},
    )
    assert checks["disk"].blocking and "cannot be waived" in checks["disk"].remedy


def test_the_disk_that_the_checkpoints_go_to_is_the_one_that_counts(
    small_disk: Path, make_workspace: Make
) -> None:
    workspace = make_workspace()
    runs = workspace.folder / "runs"
    runs.symlink_to(small_disk)

    def verdict(*overrides: str) -> Verdict:
        return check_disk(Context(workspace.folder, overrides=overrides))

    here, cache = verdict().figures
    assert str(small_disk) in here.label and here.now == pytest.approx(20 * 2**20, rel=0.05)
    assert str(small_disk) not in cache.label and (cache.now or 0) > (here.now or 0)
    assert verdict().status == "warn" and "It lies in memory" in verdict().evidence
    planned = verdict("training.keep_checkpoints=99")
    assert (planned.status, planned.is_waivable) == ("fail", True)
    limited = verdict("limits.min_free_disk_gib=0.1")
    assert (limited.status, limited.is_waivable) == ("fail", False), "a waiver overrules no setting"
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert (verdict().status, verdict().is_waivable) == ("fail", False)
    assert f"{runs} cannot be written" in verdict().evidence
    runs.unlink()
    runs.symlink_to("/nowhere/usb-disk")
    assert (verdict().status, verdict().is_waivable) == ("fail", False)
    assert "is a link to /nowhere/usb-disk, which is not there" in verdict().evidence


def test_a_file_system_that_does_not_last_or_is_far_away_is_named(
    small_disk: Path, make_workspace: Make
) -> None:
    workspace = make_workspace()
    layers = [small_disk / name for name in ("lower", "upper", "work")]
    for layer in (*layers, workspace.folder / "runs"):
        layer.mkdir()
    options = f"lowerdir={layers[0]},upperdir={layers[1]},workdir={layers[2]}"
    runs = str(workspace.folder / "runs")
    if subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, runs], check=False).returncode:
        pytest.skip("no overlay can be mounted here")
    try:
        verdict = check_disk(Context(workspace.folder))
    finally:
        subprocess.run(["umount", "-l", runs], check=True)
    assert verdict.status == "warn" and "(overlay)" in verdict.evidence
    assert "It is a container's own layer" in verdict.evidence
    for kind in ("nfs4", "cifs", "fuse.sshfs", "9p"):
        assert "network file system" in _lasting(kind, "", []).evidence
    assert _lasting("ext4", "", []).status == "pass"


def test_two_starts_in_the_same_second_are_one_run(make_workspace: Make) -> None:
    workspace = make_workspace(tokens=40_960_000)
    command = [*COMMAND, "--workspace", str(workspace.folder), "run", "--detach"]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    told = [(*start.communicate(timeout=90), start.returncode) for start in both]
    assert sorted(code for _, _, code in told) == [0, 3], told
    (refusal,) = [said for _, said, code in told if code == 3]
    assert "device-free" in refusal and "stop" in refusal
    (only,) = folders.all_runs(workspace.folder)
    assert [out.strip() for out, _, code in told if code == 0] == [only.id]
    workspace.command(only.id, "stop")


def test_waivers_and_ticks_are_kept_with_the_run_and_are_valid_for_one_start(make_workspace: Make) -> None:
    workspace = make_workspace(tokens=40_960_000)
    text = workspace.settings_path.read_text()
    workspace.settings_path.write_text(
        text.replace("[preflight]", '[preflight]\nmanual = ["lid open", "fan free"]')
    )
    command = [*COMMAND, "--workspace", str(workspace.folder)]

    def llm_tui(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, timeout=120, check=False
        )

    began = llm_tui("run", "--detach", "--waive", "manual-1=it is a [bold]test[/]", "--tick", "manual-2")
    assert began.returncode == 0, began.stderr
    run_id = began.stdout.strip()
    workspace.command(run_id, "stop")
    with contextlib.closing(workspace.folder_of(run_id).open()) as store:
        assert store.meta("waivers", dict[str, str]) == {"manual-1": "it is a [bold]test[/]"}
        assert store.meta("ticks", tuple[str, ...]) == ("manual-2",)
        kinds = {event.kind for event in store.rows(EventRow)}
        assert "waived" in kinds and kinds & {"sleep-inhibited", "sleep-not-inhibited"}
    (entry,) = workspace.ledger()
    assert json.loads(entry.waivers) == {"manual-1": "it is a [bold]test[/]"}
    report = (workspace.folder / "TRAINING.md").read_text()
    assert (
        "it is a" in report and "Ticked by hand: fan free" in report and "ticked by hand: fan free" in report
    )
    # Neither is valid for another start, of another run or of this one.
    looked, refused = llm_tui("check"), llm_tui("resume")
    assert looked.returncode == refused.returncode == 3
    for said in (looked.stdout, refused.stderr):
        for words in ("Not ticked: lid open", "--tick manual-1", "Not ticked: fan free", "--tick manual-2"):
            assert words in said
    assert f"resume {run_id} --waive" in refused.stderr
    with pytest.raises(EngineError, match="no check 'lid'"):
        workspace.resume(run_id, waivers={"lid": "because"})
    resumed = llm_tui("resume", "--waive", "manual-2=for the second time", "--tick", "manual-1")
    assert resumed.returncode == 0, resumed.stderr
    workspace.command(run_id, "stop")
    (entry,) = workspace.ledger()
    both = {"manual-1": "it is a [bold]test[/]", "manual-2": "for the second time"}
    assert json.loads(entry.waivers) == both and len(folders.all_runs(workspace.folder)) == 1


def test_a_rehearsal_is_made_once_and_taken_over_while_it_is_fresh(make_workspace: Make) -> None:
    workspace = make_workspace()
    on = ["preflight.rehearsal=true"]
    first = found_by(workspace, overrides=on)["rehearsal"]
    assert first.status == "pass", first.evidence
    assert [figure.label for figure in first.figures][:4] == ["step", "validation of a batch", "save", "load"]
    assert all(figure.now for figure in first.figures)
    assert (first.seconds or 0) > 0.5
    known = kept.load(workspace.folder)
    assert known.slow["rehearsal"].at == first.at
    second = check_rehearsal(Context(workspace.folder, overrides=tuple(on)), has_blocking=False)
    assert second.status == "pass" and "Taken over from" in second.evidence
    # Of other settings, or older than a minute, it is made anew.
    other = Context(workspace.folder, overrides=("preflight.rehearsal=true", "model.n_layer=1"))
    key = known.slow["rehearsal"].key
    assert rehearsal_key(Context(workspace.folder, overrides=tuple(on))) == key != rehearsal_key(other)
    assert kept.fresh(known, "rehearsal", key) is not None
    old = kept.SlowVerdict(key=key, check=first, at=time.time() - 61)
    assert kept.fresh(kept.Kept(slow={"rehearsal": old}), "rehearsal", key) is None


def test_a_cancelled_preflight_takes_its_rehearsal_along(make_workspace: Make) -> None:
    workspace = make_workspace()
    command = workspace.check_argv(overrides=["preflight.rehearsal=true"])
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    scratch = workspace.folder / "cache" / "rehearsals"

    def rehearsing() -> list[int]:
        pids = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if b"\0prove\0" in path.read_bytes() and str(scratch).encode() in path.read_bytes():
                    pids.append(int(path.parent.name))
        return pids

    wait_for(rehearsing, 60, "the rehearsal began")
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=5)
    assert child.returncode == 143
    wait_for(lambda: not rehearsing(), 30, "the rehearsal ended with it")
    assert not list(scratch.iterdir())
    lock = Lock(device_lock_path("cpu"))
    assert lock.acquire("x", timeout_s=0), "the device is free again"
    lock.release()


def _is_preparing(workspace: Workspace) -> bool:
    runs = folders.all_runs(workspace.folder)
    if not runs or not runs[0].is_supervised:
        return False
    with contextlib.closing(runs[0].open()) as store:
        return store.num_states() > 0


@pytest.mark.parametrize(
    ("number", "words"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGKILL, "went away")], ids=["ended", "killed"]
)
async def test_a_supervisor_that_ends_during_the_checks_ends_the_start(
    make_workspace: Make, number: signal.Signals, words: str
) -> None:
    workspace = make_workspace()
    lock = Lock(device_lock_path("cpu"))
    assert lock.acquire(REHEARSING)
    starting = asyncio.create_task(asyncio.to_thread(workspace.start))
    await asyncio.to_thread(wait_for, lambda: _is_preparing(workspace))
    (run,) = folders.all_runs(workspace.folder)
    os.kill(int(holder(run.supervisor_lock) or 0), number)
    began_s = time.monotonic()
    with pytest.raises(EngineError, match=words):
        await starting
    assert time.monotonic() - began_s < 20
    lock.release()
    assert not folders.all_runs(workspace.folder), "what never began leaves nothing"


async def test_a_start_waits_for_a_rehearsal_that_holds_the_device(make_workspace: Make) -> None:
    workspace = make_workspace()
    lock = Lock(device_lock_path("cpu"))
    assert lock.acquire(REHEARSING)
    starting = asyncio.create_task(asyncio.to_thread(workspace.start))
    await asyncio.sleep(2.0)
    assert not starting.done()
    lock.release()
    run_id = await starting
    await asyncio.to_thread(workspace.command, run_id, "stop")
