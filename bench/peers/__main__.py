"""`python -m bench.peers NAME`: one contender, at the driver's command.

It warms up and says so; then for each line with a number N it does one step untimed and N timed, and says how
long they took. It ends with its stdin. Answers are JSON, one a line, on stdout.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from functools import partial

from bench.peers.gate import Gate, OverError

Run = Callable[[Gate], None]


def plain(**how: bool) -> Run:
    """The plain GPT."""
    from bench.peers.plain import run

    return partial(run, **how)


def llama_loop() -> Run:
    """transformers' Llama in a loop of one's own."""
    from bench.peers.hugging_face import run_loop

    return run_loop


def trainer(model: str, **how: bool) -> Run:
    """The Trainer."""
    from bench.peers import hugging_face

    return lambda gate: hugging_face.run_trainer(gate, getattr(hugging_face, model)(), **how)


def litgpt() -> Run:
    """litgpt."""
    from bench.peers.lit_gpt import run

    return run


def ours(optimizer: str, *, is_compiled: bool) -> Run:
    """This repository's trainer."""
    from bench.peers.ours import run

    return partial(run, optimizer=optimizer, is_compiled=is_compiled)


CONTENDERS: dict[str, Callable[[], Run]] = {
    "plain-fp32": partial(plain, is_bf16=False, is_compiled=False, is_fused=False),
    "plain-bf16-compiled": partial(plain, is_bf16=True, is_compiled=True, is_fused=False),
    "plain-tuned": partial(plain, is_bf16=True, is_compiled=True, is_fused=True),
    "llama-bf16-compiled": llama_loop,
    "llama-tuned": llama_loop,
    "trainer-llama-fp32": partial(trainer, "llama", is_bf16=False),
    "trainer-llama-bf16": partial(trainer, "llama", is_bf16=True),
    "trainer-llama-bf16-compiled": partial(trainer, "llama", is_bf16=True, is_compiled=True),
    "trainer-gpt2-bf16": partial(trainer, "gpt2", is_bf16=True),
    "litgpt-bf16-compiled": litgpt,
    "ours-adamw-eager": partial(ours, "adamw", is_compiled=False),
    "ours-adamw": partial(ours, "adamw", is_compiled=True),
    "ours-muon": partial(ours, "muon", is_compiled=True),
}
"""What a name runs; the driver gives those that are tuned their environment."""


def main(name: str) -> None:
    """Run a contender until its stdin ends."""
    run = CONTENDERS[name]()
    with contextlib.suppress(OverError):
        run(Gate())


if __name__ == "__main__":
    main(sys.argv[1])
