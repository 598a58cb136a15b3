"""Sending a message to where the person is: ntfy and web hooks, by the standard library alone.

What identifies the receiver (topic, path, user, token) never leaves this module: messages and errors name the host.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
import urllib.error
import urllib.parse
import urllib.request

from engine.errors import EngineError

TIMEOUT_S = 5.0
NTFY_HOST = "ntfy.sh"


class NotifyError(EngineError):
    """A message did not get through."""


class UnsupportedError(EngineError):
    """A kind of address that this version cannot send to."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would arrive as a GET without the message."""

    def redirect_request(self, *_arguments: object, **_named: object) -> None:
        """Follow none: the status is the answer."""


def masked(url: str) -> str:
    """An address as it may be shown: its kind and, where that is no secret, its host."""
    parts = _split(url)
    if parts.scheme == "ntfy":
        return f"ntfy at {NTFY_HOST}"
    if parts.scheme not in ("ntfys", "http", "https"):
        return f"a {parts.scheme} address" if parts.scheme else "an address of no kind"
    return f"{parts.scheme} at {_host(parts) or 'an unknown host'}"


def send(url: str, title: str, text: str, timeout_s: float = TIMEOUT_S) -> int:
    """Send one message and wait for the receiver's word; the answer is its HTTP status.

    `ntfy://TOPIC` goes to ntfy.sh, `ntfys://HOST/TOPIC` to a server of one's own; any other http address is a web
    hook, which gets JSON with title, message, text and content (the names that ntfy, Slack and Discord look for).
    Raises: UnsupportedError for other kinds; NotifyError with the exact reason.
    """
    request = _request(url, title, text)
    answer: list[int | NotifyError] = []

    def work() -> None:
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
    if parts.scheme not in ("ntfy", "ntfys", "http", "https") or not parts.netloc:
        raise UnsupportedError(
            f"notify.url is of the kind {parts.scheme or 'none'}, which this version cannot send to.",
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
            return NotifyError(f"{who} answered {error.code} {error.reason}.", _advice(error.code))
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
