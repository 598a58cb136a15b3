"""The app in a browser, by textual-serve: one process of the app for each page that is open.

There is no login. So only pages of this very server may talk to it: a page from elsewhere that is open in the same
browser could otherwise drive the app, by the address of the socket or by a name that leads to this machine.
"""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import click
from aiohttp import web
from textual_serve.server import Server

from engine.errors import EngineError
from tui.language import tr

LOOPBACK = ("127.0.0.1", "::1", "localhost")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AppServer(Server):
    """textual-serve's server for one workspace, shut to foreign pages."""

    def __init__(self, command: str, host: str, port: int) -> None:
        super().__init__(command, host=host, port=port, title="llm-tui")

    def initialize_logging(self) -> None:
        """Only what goes wrong is told."""
        logging.basicConfig(level=logging.WARNING, format="%(message)s")

    async def on_startup(self, app: web.Application) -> None:
        """Say where the app is."""
        click.echo(
            tr(
                "llm-tui is on {address}; ctrl+c ends the serving, a run goes on.",
                address=address(self.host, self.port),
            ),
            err=True,
        )

    async def _make_app(self) -> web.Application:
        app = await super()._make_app()
        app.middlewares.append(self._shut)
        return app

    @web.middleware
    async def _shut(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer only what was asked of this server by its own page."""
        if not is_own(self.host, request.headers.get("Host", ""), request.headers.get("Origin")):
            return web.Response(status=403, text=tr("This page may not talk to llm-tui.\n"))
        # The page's addresses are those by which the browser came, so that a forwarded port works.
        self.public_url = f"{request.scheme}://{request.host}"
        return await handler(request)


def is_own(listens_on: str, host: str, origin: str | None) -> bool:
    """Whether a request was meant for a server that listens there, and comes from no foreign page.

    `origin` is None where no browser says one, as for a page that is opened by its address.
    """
    if listens_on in LOOPBACK and urlsplit(f"//{host}").hostname not in LOOPBACK:
        return False
    return origin is None or urlsplit(origin).netloc == host


def address(host: str, port: int) -> str:
    """The address of the server, for a browser."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(folder: Path, host: str, port: int, *, is_read_only: bool) -> None:
    """Serve until interrupted. Raises: EngineError where the address cannot be had."""
    argv = [sys.executable, "-m", "tui", "--workspace", str(folder)]
    argv += ["--read-only"] if is_read_only else []
    try:
        AppServer(shlex.join(argv), host, port).serve()
    except OSError as error:
        raise EngineError(
            tr("{address} cannot be served: {why}", address=address(host, port), why=error.strerror or error),
            tr("Choose another one with --port or --host."),
        ) from error
