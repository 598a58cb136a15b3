"""News of a run reach a real receiver, with nobody attached; a dead one costs nothing, and no secret is kept."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from engine import Workspace, notify
from engine.records import EventRow, HeartbeatRow, RunState, StepRow
from engine.runs import news
from engine.runs.events import event
from engine.runs.folder import RunFolder, create
from engine.runs.news import Message, News
from engine.runs.store import RunStore
from engine.settings import NotifySettings, Settings
from tests.conftest import wait_for
from tests.engine.train.conftest import make_plan
from tests.receiver import SECRET, Receiver, receiver

__all__ = ["receiver"]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return create(
        tmp_path, Settings(notify=NotifySettings(url=f"https://x/{SECRET}")), make_plan(), {}, "test"
    )


@pytest.fixture
def store(run: RunFolder) -> Iterator[RunStore]:
    opened = run.open(read_only=False)
    yield opened
    opened.close()


def send_to(run: RunFolder, url: str) -> None:
    (run.workspace / "settings.toml").write_text(f'[notify]\nurl = "{url}"\n')


def messages(receiver: Receiver) -> list[dict[str, str]]:
    return [json.loads(body) for _, _, body in receiver.got]


def keeps_no_secret(folder: Path) -> bool:
    return not any(SECRET.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def beat(told: News, store: RunStore, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await told.run(store)


def test_what_is_news_is_told_once_and_counted_after(
    run: RunFolder, store: RunStore, receiver: Receiver
) -> None:
    send_to(run, receiver.url)
    told = News(run, store)
    store.put(event("error", "run-failed", "of a preflight: who started it sees it"))
    store.put(event("info", "preflight-clear", "clear"), event("info", "compiled", "is no news"))
    store.put(event("info", "trainer-started", "Training on a processor."))
    asyncio.run(beat(told, store, 0.3))
    wait_for(lambda: len(receiver.got) == 1, 30, "the first message")
    assert messages(receiver)[0]["title"] == f"llm-tui {run.id}: training started"
    assert (
        "no news" not in messages(receiver)[0]["message"]
        and "preflight" not in messages(receiver)[0]["message"]
    )
    for number in range(3):
        store.put(event("warning", "restart", f"crash {number}"))
    store.put(event("info", "run-finished", "The run is finished."))
    told.last_words(store)
    wait_for(lambda: len(receiver.got) == 2, 30, "the last message")
    last = messages(receiver)[1]
    assert last["title"].endswith(": finished")
    assert "crash 0" in last["message"] and "crash 1" not in last["message"] and "(2 more" in last["message"]
    assert "step 0 of 12" in last["message"]
    assert keeps_no_secret(run.path)


def test_a_trainer_that_lives_without_a_step_is_told(
    run: RunFolder, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "STALL_S", 0.0)
    told = News(run, store)
    store.set_state(RunState.RUNNING)
    store.put(HeartbeatRow(role="supervisor", pid=1, at=time.time(), phase="reading the corpus"))
    asyncio.run(beat(told, store, 0.2))
    assert not store.rows(EventRow)
    store.put(HeartbeatRow(role="supervisor", pid=1, at=time.time(), phase="training"))
    for _ in range(3):
        asyncio.run(beat(told, store, 0.05))
    assert [row.kind for row in store.rows(EventRow)] == ["stalled"]
    store.put(
        StepRow(step=1, at=1, tokens=1, loss=1, learning_rate=1, tokens_per_s=1, micro_batch=1, grad_accum=1)
    )
    for _ in range(3):
        asyncio.run(beat(told, store, 0.05))
    assert [row.kind for row in store.rows(EventRow)] == ["stalled", "stalled"]


def test_there_is_a_most_of_messages_an_hour_and_the_end_is_told_even_so(
    run: RunFolder, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(news, "AGAIN_S", 0.0)
    told = News(run, store)
    store.put(event("info", "preflight-clear", "clear"))
    told._sent_s = [time.monotonic()] * news.MOST_AN_HOUR
    store.put(event("warning", "too-hot", "hot"), event("error", "run-failed", "over"))
    told._pick(store)
    assert [row.kind for row in told._pending] == ["run-failed"] and told._held_back == 1


def test_a_receiver_that_never_answers_holds_nothing_up(run: RunFolder, store: RunStore) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        send_to(run, f"http://127.0.0.1:{silent.getsockname()[1]}/{SECRET}")
        told = News(run, store)
        store.put(event("info", "preflight-clear", "clear"), event("warning", "too-hot", "hot"))
        asyncio.run(beat(told, store, 0.2))
        (child,) = told._children
        store.put(event("info", "run-finished", "done"))
        began_s = time.monotonic()
        told.last_words(store)
        assert time.monotonic() - began_s < 5 and len(told._children) == 2
        assert child.poll() is None, "it waits for the receiver, and alone"
        for process in told._children:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    assert keeps_no_secret(run.path)


@pytest.mark.parametrize(("port", "tries"), [(None, 1), (9, 2)], ids=["refused", "dead port"])
def test_what_could_not_be_sent_is_told_among_the_events(
    run: RunFolder,
    store: RunStore,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    port: int | None,
    tries: int,
) -> None:
    receiver.code = 403
    monkeypatch.setattr(news, "DELAYS_S", (0.0, 0.05))
    tried: list[str] = []
    really_send = notify.send

    def send(*arguments: str, timeout_s: float) -> int | None:
        tried.append(arguments[0])
        return really_send(*arguments, timeout_s=timeout_s)

    monkeypatch.setattr(notify, "send", send)
    url = receiver.url if port is None else f"http://127.0.0.1:{port}/{SECRET}"
    message = Message(url=url, title="t", text="t")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(msgspec.json.encode(message))))
    assert news.main(run) == 1
    signal.alarm(0)
    assert len(tried) == tries, "a refusal is final, a dead port may come back"
    (row,) = store.rows(EventRow)
    assert row.kind == "news-not-sent" and ("403" in row.text or "cannot be reached" in row.text)
    assert keeps_no_secret(run.path)


@pytest.mark.timeout(300)
def test_a_real_run_tells_its_start_its_crash_and_its_end(
    make_workspace: Callable[..., Workspace], receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    workspace = make_workspace(tokens=10**9)
    run_id = workspace.start(overrides=[f"notify.url={receiver.url}"])
    folder = workspace.folder_of(run_id)
    wait_for(lambda: (workspace.status(run_id).step or 0) >= 2, 90, "two steps")
    trainer_pid = workspace.status(run_id).trainer_pid
    assert trainer_pid is not None
    os.kill(trainer_pid, signal.SIGKILL)

    def told() -> str:
        return "\n".join(message["title"] + message["message"] for message in messages(receiver))

    wait_for(lambda: f"{run_id}: the trainer crashed and starts again" in told(), 60, "news of the crash")
    assert workspace.command(run_id, "stop").is_done
    wait_for(lambda: f"{run_id}: stopped" in told(), 60, "news of the end")
    assert "test message" in told() and "Training on" in told() and "signal SIGKILL" in told()
    assert " of 976,56" in told() and "kWh" in told(), "each says how the run stands"
    assert keeps_no_secret(folder.path)
    assert keeps_no_secret(workspace.folder)
