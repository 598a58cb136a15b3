"""`python -m engine.train run|work|join|ramp|prove|generate|export|probe`: the door to torch for everything else."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from engine.errors import DeviceGoneError, EngineError, RunFailedError, TrainerExit
from engine.records import RunPlan
from engine.runs.folder import RunFolder
from engine.runs.lock import Lock

TUNED_ENVIRONMENT = {
    "GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=8589934592:"
    "glibc.malloc.top_pad=268435456:glibc.malloc.hugetlb=1",
    "GOMP_SPINCOUNT": "10000",
}
"""What a process can only be told before it starts.

The allocator keeps big blocks, in huge pages, instead of giving them back and faulting them in anew every step.
Threads that wait for each other spin for microseconds only: with the default, one busy program beside a training
on two cores made it 12 times slower, with this 2 to 3 times; alone it costs about 4 %.
"""
INTERRUPTED = 130
"""What a shell reports of a program that Ctrl-C ended."""


def main(arguments: list[str] | None = None) -> int:
    """Run one of these, and say with which exit code to end.

    That of `TrainerExit` for `run`, else 0; 2 for an EngineError, 12 for a device that is gone, 130 for Ctrl-C.
    """
    parsed = _parser().parse_args(arguments)
    try:
        if parsed.verb == "run":
            return _run(parsed.run_dir)
        if parsed.verb == "work":
            from engine.train.launch import work

            return work(parsed.place, joins=parsed.join)
        if parsed.verb == "join":
            return _join(parsed.workspace.resolve())
        if parsed.verb == "ramp":
            return _ramp(parsed.run_dir)
        if parsed.verb == "prove":
            return _prove(parsed)
        if parsed.verb == "generate":
            return _generate(parsed)
        if parsed.verb == "export":
            return _export(parsed)
        return _probe()
    except EngineError as error:
        sys.stderr.write(f"{error}\n")
        return TrainerExit.NO_DEVICE if isinstance(error, DeviceGoneError) else TrainerExit.REFUSED
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m engine.train", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="train a run")
    run.add_argument("run_dir", type=Path)
    work = verbs.add_parser(
        "work", help="be one of the processes that train a run together; started by the others"
    )
    work.add_argument("place", type=Path, help="the run's folder; with --join a workspace")
    work.add_argument(
        "--join", action="store_true", help="of another machine than the one with the run's folder"
    )
    join = verbs.add_parser("join", help="run processes on this machine for a run that another one leads")
    join.add_argument("workspace", type=Path)
    ramp = verbs.add_parser("ramp", help="find a run's batch size on the device itself")
    ramp.add_argument("run_dir", type=Path)
    prove = verbs.add_parser("prove", help="prove one size of a plan, and print what it took as JSON")
    prove.add_argument("plan", type=Path, help="a RunPlan as JSON")
    prove.add_argument("scratch", type=Path, help="a folder for a checkpoint that is deleted again")
    prove.add_argument("--micro-batch", type=int, default=1)
    generate = verbs.add_parser("generate", help="stream text of a run's model to stdout")
    generate.add_argument("run_dir", type=Path)
    generate.add_argument("--prompt", default="")
    generate.add_argument("--max-tokens", type=int, default=200)
    generate.add_argument("--temperature", type=float, default=0.8)
    generate.add_argument("--top-p", type=float, default=0.95)
    generate.add_argument("--seed", type=int, default=0)
    generate.add_argument(
        "--source", default="", help='"model" or a checkpoint; default: the newest good one'
    )
    export = verbs.add_parser(
        "export", help="write a run's model for other programs; tells JSON lines of its progress"
    )
    export.add_argument("run_dir", type=Path)
    export.add_argument("folder", type=Path, help="an empty folder to write into")
    export.add_argument("--format", default="transformers", choices=("transformers", "gguf"))
    export.add_argument("--numbers", default="f16", choices=("f32", "f16", "q8_0"))
    export.add_argument("--source", default="", help="as of generate")
    verbs.add_parser("probe", help="print what torch can use, as JSON")
    return parser


def tuned(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment with what is missing of `TUNED_ENVIRONMENT`; what is set there already is left alone."""
    return {**TUNED_ENVIRONMENT, **environment}


def _tune() -> None:
    """Start this very process anew where its environment is not tuned yet; its process id stays."""
    wanted = tuned(os.environ)
    if sys.platform == "linux" and wanted != dict(os.environ):
        os.execve(sys.executable, sys.orig_argv, wanted)


def _locked(run_dir: Path) -> RunFolder:
    """The run, locked to the end of this process, which no terminal ends."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder = RunFolder(run_dir.resolve())
    if not Lock(folder.trainer_lock).acquire(str(os.getpid())):
        raise RunFailedError(
            f"Another trainer is at work on run {folder.id}.", "Wait for it, or stop the run."
        )
    return folder


def _run(run_dir: Path) -> int:
    parent_pid = os.getppid()
    _tune()
    folder = _locked(run_dir)
    settings = folder.settings()
    scale = settings.scale
    if scale.processes * scale.nodes > 1:
        from engine.train.launch import lead

        return lead(folder, scale, settings.training.max_restarts, parent_pid)
    from engine.train.loop import train

    return int(train(folder.path, parent_pid))


def _join(workspace: Path) -> int:
    _tune()
    from engine.settings_file import FILE_NAME, load
    from engine.train.launch import join

    settings = load(workspace / FILE_NAME)
    return join(workspace, settings.scale, settings.training.max_restarts)


def _ramp(run_dir: Path) -> int:
    parent_pid = os.getppid()
    _tune()
    folder = _locked(run_dir)
    from engine.train.ramp import OrphanedError, ramp

    try:
        ramp(folder.path, parent_pid)
    except OrphanedError:
        return TrainerExit.ORPHANED
    return 0


def _prove(parsed: argparse.Namespace) -> int:
    _tune()
    from engine.train.proof import prove

    try:
        plan = msgspec.json.decode(parsed.plan.read_bytes(), type=RunPlan)
    except (OSError, msgspec.MsgspecError) as error:
        raise EngineError(f"{parsed.plan} is no plan: {error}") from error
    found = prove(plan, parsed.scratch, parsed.micro_batch)
    _say([msgspec.json.encode(found).decode() + "\n"])
    return 0


def _generate(parsed: argparse.Namespace) -> int:
    """Always on the CPU: a GPU may be training, this run or another, and has no room to spare."""
    from engine.corpus.manifest import load_manifest
    from engine.train.model_folder import load_from
    from engine.train.sample import Vocabulary, generate

    os.nice(5)  # a training on this very CPU goes first
    folder = RunFolder(parsed.run_dir.resolve())
    manifest = load_manifest(folder.corpus_path)
    vocabulary = Vocabulary(folder.path / "tokenizer.json", manifest.end_of_text_id)
    loaded = load_from(folder.path, parsed.source)
    for problem in loaded.problems:
        sys.stderr.write(f"{problem.title} {loaded.source} is used.\n")
    stream = generate(
        loaded.model,
        vocabulary,
        parsed.prompt,
        max_tokens=parsed.max_tokens,
        temperature=parsed.temperature,
        top_p=parsed.top_p,
        seed=parsed.seed,
    )
    _say(stream)
    return 0


def _export(parsed: argparse.Namespace) -> int:
    """A line `[done, total]` of bytes as it goes, and one with the source's name at the end."""
    from engine.train.export import export_gguf, export_transformers

    def tell(done_bytes: int, total_bytes: int) -> None:
        _say([json.dumps([done_bytes, total_bytes]) + "\n"])

    os.nice(5)  # a training on this very CPU goes first
    run_dir = parsed.run_dir.resolve()
    try:
        if parsed.format == "gguf":
            source = export_gguf(run_dir, parsed.folder, parsed.source, parsed.numbers, tell)
        else:
            source = export_transformers(run_dir, parsed.folder, parsed.source, tell)
    except OSError as error:
        raise EngineError(
            f"The export could not be written: {error.strerror or error}.", "Make room on the disk."
        ) from error
    _say([json.dumps(source) + "\n"])
    return 0


def _probe() -> int:
    import torch

    from engine.train.device import use_physical_cores

    is_available = torch.cuda.is_available()
    devices = []
    for index in range(torch.cuda.device_count() if is_available else 0):
        free_bytes, total_bytes = torch.cuda.mem_get_info(index)
        capability = torch.cuda.get_device_capability(index)
        devices.append(
            {
                "name": torch.cuda.get_device_name(index),
                "total_bytes": total_bytes,
                "free_bytes": free_bytes,
                "capability": list(capability),
                # Emulated bf16 of older GPUs does not count: it is slower than fp32.
                "has_bf16": capability >= (8, 0),
            }
        )
    found = {
        "torch": str(torch.__version__),
        "cuda_build": torch.version.cuda,
        "cuda_available": is_available,
        "devices": devices,
        "num_threads": use_physical_cores(),
    }
    _say([json.dumps(found) + "\n"])
    return 0


def _say(pieces: Iterable[str]) -> None:
    """Write each piece to stdout at once, until there is none or nobody reads on."""
    try:
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader has enough. Source: docs.python.org/3/library/signal.html, "Note on SIGPIPE".
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
