"""Notifications: a real server on this machine gets them, and no secret of the address is told."""

from __future__ import annotations

import json
import socketserver
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
from tests.receiver import SECRET, Receiver, receiver

__all__ = ["receiver"]


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


@pytest.mark.parametrize(
    "url", ["tgram://bot/chat", "nonsense", "http://[bad", f"sl\x00ck://{SECRET}", f"no-such-kind://{SECRET}"]
)
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


class Mailbox(socketserver.ThreadingTCPServer):
    """A mail server that takes every letter."""

    allow_reuse_address = daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Postman)
        self.got: list[str] = []


class Postman(socketserver.StreamRequestHandler):
    server: Mailbox

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline():
            verb = line.strip().upper()
            if verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                letter = b""
                while (line := self.rfile.readline()) != b".\r\n":
                    letter += line
                self.server.got.append(letter.decode())
            self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 yes\r\n")
            if verb == b"QUIT":
                return


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    server = Mailbox()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_mail_goes_through_apprise(mailbox: Mailbox) -> None:
    url = f"mailto://127.0.0.1:{mailbox.server_address[1]}?from=run@example.org&to=me@example.org"
    assert notify.send(url, "llm-tui: finished", "It is done.") is None
    (letter,) = mailbox.got
    assert "Subject: llm-tui: finished" in letter and "It is done." in letter
    mailbox.shutdown()
    mailbox.server_close()
    with pytest.raises(notify.NotifyError, match="did not take the message") as caught:
        notify.send(f"mailto://me:{SECRET}@127.0.0.1:9?from=run@example.org&to=me@example.org", "t", "t")
    assert SECRET not in str(caught.value)
