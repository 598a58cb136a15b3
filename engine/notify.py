"""Sending a message to where the person is: ntfy and web hooks by the standard library, all else through apprise.

What identifies the receiver (topic, path, user, token) never leaves this module: messages and errors name the host.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import logging
import os
import socket
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from engine.errors import EngineError

TIMEOUT_S = 5.0
APPRISE_TIMEOUT_S = 15.0
"""It shakes hands longer (mail), and keeps to its own shorter limits meanwhile."""
NTFY_HOST = "ntfy.sh"
OWN_KINDS = ("ntfy", "ntfys", "http", "https")
ENVIRONMENT = "LLM_TUI_NOTIFY_URL"
"""Where a run finds its receiver that was named for it alone, or by who wants it in no file at all."""


class NotifyError(EngineError):
    """A message did not get through."""


class RefusedError(NotifyError):
    """The receiver answered, and will answer the same to the same message."""


class UnsupportedError(EngineError):
    """A kind of address that this version cannot send to."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would arrive as a GET without the message."""

    def redirect_request(self, *_arguments: object, **_named: object) -> None:
        """Follow none: the status is the answer."""


def address(workspace: Path) -> str:
    """Where the news of a workspace's runs go: the environment's address, else that of settings.toml; empty: nowhere.

    It is kept in no run's frozen settings. Raises: SettingsError where the file cannot be read.
    """
    from engine.settings_file import FILE_NAME, load

    return os.environ.get(ENVIRONMENT, "") or load(workspace / FILE_NAME).notify.url


def masked(url: str) -> str:
    """An address as it may be shown: its kind and, where that is no secret, its host."""
    parts = _split(url)
    if parts.scheme == "ntfy":
        return f"ntfy at {NTFY_HOST}"
    if parts.scheme not in OWN_KINDS:
        return f"a {parts.scheme} address" if parts.scheme else "an address of no kind"
    return f"{parts.scheme} at {_host(parts) or 'an unknown host'}"


def send(url: str, title: str, text: str, timeout_s: float = TIMEOUT_S) -> int | None:
    """Send one message and wait for the receiver's word; the answer is its HTTP status, None where apprise sent it.

    `ntfy://TOPIC` goes to ntfy.sh, `ntfys://HOST/TOPIC` to a server of one's own; any other http address is a web
    hook, which gets JSON with title, message, text and content (the names that ntfy, Slack and Discord look for).
    Every other kind is apprise's: tgram://, mailtos:// and a hundred more.
    Raises: UnsupportedError for a kind that is nobody's; NotifyError with the exact reason, RefusedError where there
    is no use in trying again.
    """
    if not _is_own(url):
        _check_apprise(url)
        timeout_s = max(timeout_s, APPRISE_TIMEOUT_S)
    request = _request(url, title, text) if _is_own(url) else None
    answer: list[int | NotifyError | None] = []

    def work() -> None:
        if request is None:
            answer.append(_deliver_by_apprise(url, title, text))
        else:
            answer.append(_deliver(request, timeout_s, masked(url)))

    # A name that cannot be resolved and a server that drips its answer heed no timeout: the thread is left behind.
    thread = threading.Thread(target=work, name="notify", daemon=True)
    thread.start()
    thread.join(timeout_s + 0.5)
    if not answer:
        raise NotifyError(f"{masked(url)} did not answer within {timeout_s:g} s.", "Is the network up?")
    if isinstance(answer[0], NotifyError):
        raise answer[0]
    return answer[0]


def _is_own(url: str) -> bool:
    scheme = _split(url).scheme
    return scheme in OWN_KINDS or not scheme


def _check_apprise(url: str) -> None:
    """Raise UnsupportedError where apprise is missing or does not know this kind."""
    if importlib.util.find_spec("apprise") is None:
        raise UnsupportedError(
            f"notify.url is of the kind {_split(url).scheme}, which needs apprise.",
            "Install it: pip install 'llm-tui[notify]'; ntfy://TOPIC and web hooks need nothing.",
        )
    if _receivers(url) is None:
        raise UnsupportedError(
            f"notify.url is of the kind {_split(url).scheme}, and apprise does not take it as it is written.",
            "Use ntfy://TOPIC, ntfys://HOST/TOPIC, the https:// address of a web hook, or an address of apprise's.",
        )


def _receivers(url: str) -> Any:
    """apprise's object for an address; None where it is of no kind that apprise knows."""
    import apprise

    logging.getLogger("apprise").disabled = True  # it tells addresses
    receivers = apprise.Apprise()
    return receivers if receivers.add(url) else None


def _deliver_by_apprise(url: str, title: str, text: str) -> NotifyError | None:
    """Send by apprise, which tells whether and not why; None: it went out."""
    try:
        if _receivers(url).notify(title=title, body=text):
            return None
    except (OSError, ValueError, TypeError) as error:
        return NotifyError(f"{masked(url)} cannot be reached: {_reason(error)}.", "Look at notify.url.")
    return NotifyError(f"{masked(url)} did not take the message.", "Look at notify.url; is the network up?")


def _split(url: str) -> urllib.parse.SplitResult:
    try:
        return urllib.parse.urlsplit(url.strip())
    except ValueError:
        return urllib.parse.SplitResult("", "", "", "", "")


def _host(parts: urllib.parse.SplitResult) -> str:
    try:
        return f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}"
    except ValueError:
        return parts.hostname or ""


def _request(url: str, title: str, text: str) -> urllib.request.Request:
    parts = _split(url)
    if parts.scheme not in OWN_KINDS or not parts.netloc:
        raise UnsupportedError(
            f"notify.url is of the kind {parts.scheme or 'none'} and names no receiver.",
            "Use ntfy://TOPIC, ntfys://HOST/TOPIC or the https:// address of a web hook.",
        )
    headers = {"User-Agent": "llm-tui"}
    if parts.scheme == "ntfy":
        address = f"https://{NTFY_HOST}/{urllib.parse.quote(parts.netloc)}"
    else:
        scheme = "https" if parts.scheme == "ntfys" else parts.scheme
        user, _, host = parts.netloc.rpartition("@")
        if user:
            headers["Authorization"] = "Basic " + _basic(user)
        address = urllib.parse.urlunsplit((scheme, host, parts.path, parts.query, ""))
    if parts.scheme in ("ntfy", "ntfys") or host_is_ntfy(parts):
        return urllib.request.Request(address, text.encode(), {**headers, "Title": title}, method="POST")
    body = {"title": title, "message": text, "text": f"{title}: {text}", "content": f"{title}: {text}"}
    headers["Content-Type"] = "application/json"
    return urllib.request.Request(address, json.dumps(body).encode(), headers, method="POST")


def host_is_ntfy(parts: urllib.parse.SplitResult) -> bool:
    """Whether an https address is the public ntfy server's, or that of one named so."""
    return (parts.hostname or "").startswith("ntfy.")


def _basic(user: str) -> str:
    import base64

    return base64.b64encode(urllib.parse.unquote(user).encode()).decode()


def _deliver(request: urllib.request.Request, timeout_s: float, who: str) -> int | NotifyError:
    try:
        opener = urllib.request.build_opener(_NoRedirect)
        with opener.open(request, timeout=timeout_s) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            kind = RefusedError if 300 <= error.code < 500 and error.code != 429 else NotifyError
            return kind(f"{who} answered {error.code} {error.reason}.", _advice(error.code))
    except TimeoutError:
        return NotifyError(f"{who} did not answer within {timeout_s:g} s.", "Is the network up?")
    except urllib.error.URLError as error:
        return NotifyError(f"{who} cannot be reached: {_reason(error.reason)}.", "Is the network up?")
    except (OSError, http.client.HTTPException, UnicodeError, ValueError) as error:
        return NotifyError(f"{who} cannot be reached: {_reason(error)}.", "Look at notify.url.")


def _reason(reason: object) -> str:
    """Why in words, without anything of the address."""
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not valid ({reason.verify_message})"
    if isinstance(reason, socket.gaierror):
        return f"its name is not known ({reason.strerror})"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return type(reason).__name__


def _advice(code: int) -> str:
    if code in (401, 403):
        return "The receiver wants another user, password or token in notify.url."
    if code == 404:
        return "The address in notify.url is not there any more: make a new one at the receiver."
    return "Look at notify.url, or try again later."
