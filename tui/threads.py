"""Blocking calls, in threads of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Answer = TypeVar("Answer")


async def in_thread(
    call: Callable[Parameters, Answer], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Answer:
    """Run a blocking call in a thread of its own, which does not keep the app from exiting.

    Raises: whatever the call raises. Cancelling the wait leaves the thread to end by itself.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Answer] = loop.create_future()

    def settle(answer: Answer | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is None:
            future.set_result(answer)  # type: ignore[arg-type]
        else:
            future.set_exception(error)

    def work() -> None:
        answer, error = None, None
        try:
            answer = call(*args, **kwargs)
        except Exception as raised:  # noqa: BLE001 - the top of a worker: it is raised again where it is awaited
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, answer, error)

    threading.Thread(target=work, name=f"engine-{getattr(call, '__name__', 'call')}", daemon=True).start()
    return await future
