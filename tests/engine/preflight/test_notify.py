"""Notifications: a real server on this machine gets them, and no secret of the address is told."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import notify
from engine.preflight import kept
from engine.preflight.contact import check_notify, notify_key
from engine.preflight.context import Context
from engine.records import Check

SECRET = "s3cret-token"


class Receiver(http.server.ThreadingHTTPServer):
    """Answers with `code`, after `delay_s`, and keeps what it got."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.code, self.delay_s = 200, 0.0
        self.got: list[tuple[str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hooks/{SECRET}?key={SECRET}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), body))
        time.sleep(self.server.delay_s)
        self.send_response(self.server.code)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        return


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_web_hook_gets_json(receiver: Receiver) -> None:
    assert notify.send(receiver.url, "A title", "Ünïcode text") == 200
    ((path, headers, body),) = receiver.got
    assert path == f"/hooks/{SECRET}?key={SECRET}" and headers["Content-Type"] == "application/json"
    assert json.loads(body)["message"] == "Ünïcode text"
    assert json.loads(body)["content"] == "A title: Ünïcode text"


def test_ntfy_gets_text_and_a_user_becomes_a_header() -> None:
    request = notify._request(f"ntfys://me:{SECRET}@push.example.org/topic", "Title", "Text")
    assert request.full_url == "https://push.example.org/topic"
    assert request.data == b"Text" and request.get_header("Title") == "Title"
    assert (request.get_header("Authorization") or "").startswith("Basic ")
    assert notify._request("ntfy://topic", "Title", "Text").full_url == "https://ntfy.sh/topic"


@pytest.mark.parametrize(("code", "words"), [(403, "403"), (404, "404"), (302, "302"), (500, "500")])
def test_what_a_receiver_refuses_is_told_without_the_address(
    receiver: Receiver, code: int, words: str
) -> None:
    receiver.code = code
    with pytest.raises(notify.NotifyError) as caught:
        notify.send(receiver.url, "t", "t")
    told = str(caught.value)
    assert words in told and SECRET not in told and "127.0.0.1" in told
    assert len(receiver.got) == 1


def test_an_unreachable_or_silent_receiver_is_told_in_time(receiver: Receiver) -> None:
    with pytest.raises(notify.NotifyError, match="cannot be reached"):
        notify.send(f"http://127.0.0.1:9/{SECRET}", "t", "t")
    receiver.delay_s = 3.0
    began = time.monotonic()
    with pytest.raises(notify.NotifyError, match="did not answer") as caught:
        notify.send(receiver.url, "t", "t", timeout_s=0.3)
    assert time.monotonic() - began < 2 and SECRET not in str(caught.value)


@pytest.mark.parametrize("url", ["tgram://bot/chat", "nonsense", "http://[bad", f"slack://{SECRET}"])
def test_a_kind_that_cannot_be_sent_to_is_told(url: str) -> None:
    with pytest.raises(notify.UnsupportedError) as caught:
        notify.send(url, "t", "t")
    assert SECRET not in str(caught.value) and SECRET not in notify.masked(url)


def test_the_check_sends_a_real_message_and_does_not_repeat_it_at_once(
    receiver: Receiver, tmp_path: Path
) -> None:
    (tmp_path / "settings.toml").write_text(f'[notify]\nurl = "{receiver.url}"\n')
    verdict = check_notify(Context(tmp_path))
    assert verdict.status == "pass" and "answered 200" in verdict.evidence and SECRET not in verdict.evidence
    passed = Check(id="notify", title="", status="pass", blocking=False, evidence=verdict.evidence)
    for age_s, num_sent in ((30, 1), (61, 2)):
        slow = {
            "notify": kept.SlowVerdict(
                key=notify_key(Context(tmp_path)), check=passed, at=time.time() - age_s
            )
        }
        kept.keep(tmp_path, kept.Kept(slow=slow))
        assert SECRET not in kept.path_of(tmp_path).read_text()
        assert check_notify(Context(tmp_path)).status == "pass"
        assert len(receiver.got) == num_sent
    receiver.code = 403
    kept.path_of(tmp_path).unlink()
    verdict = check_notify(Context(tmp_path))
    assert verdict.status == "warn" and "403" in verdict.evidence
    (tmp_path / "settings.toml").write_text("")
    assert check_notify(Context(tmp_path)).status == "skipped"
