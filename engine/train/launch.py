"""More than one process: torch's elastic agent starts them, watches them, and starts all anew where one dies.

The agent is what `torchrun` runs too. It stands where a single trainer would: the supervisor sees one process, with the
same exit codes. The processes themselves end with 0 where there is nothing to start again, and the leader leaves its
exit code in the run's store.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from engine.errors import EngineError, RunFailedError, StoreError, TrainerExit
from engine.process import module_argv
from engine.records import AttemptRow, EventRow, HeartbeatRow
from engine.runs.folder import RunFolder
from engine.runs.store import MetaRow, RunStore
from engine.settings import ScaleSettings
from engine.sqlite import BusyError

EXIT_FACT = "trainer_exit"
"""The store's fact with the leader's exit code."""
SHUTDOWN_S = 60
"""What the processes have to save and leave, before they are killed."""
_JOIN_WITHIN_S = 24 * 3600
_GRACE_S = 20.0
_PARENT_EVERY_S = 0.5
_PR_SET_PDEATHSIG = 1
_SIOCGIFADDR = 0x8915


def lead(folder: RunFolder, scale: ScaleSettings, max_restarts: int, parent_pid: int) -> int:
    """Run the processes of this machine, which has the run's folder; the exit code of the trainer.

    Raises: EngineError where the settings do not fit.
    """
    # Until there are processes to be ended, with which the agent takes its own handler. Not by an exception: it might
    # be raised within an import.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(TrainerExit.ORPHANED))
    store = RunStore(folder.store_path)
    _keep_exit(store, TrainerExit.ORPHANED)  # what is true where the leader never comes to tell
    if scale.nodes > 1:
        _require_address(scale)
    threading.Thread(target=_beat_for_all, args=(folder.store_path,), name="heartbeat", daemon=True).start()
    # Alone, the agent takes a port that is free.
    endpoint = scale.address if scale.nodes > 1 else "127.0.0.1:0"
    work = module_argv("engine.train", "work", str(folder.path))
    is_whole = _run_agent(work, endpoint, scale, max_restarts, parent_pid, is_host=True)
    store = RunStore(folder.store_path)
    try:
        return store.meta(EXIT_FACT, int) if is_whole else 1
    finally:
        store.close()


def join(workspace: Path, scale: ScaleSettings, max_restarts: int) -> int:
    """Run processes on this machine for a run that another one leads; 0, or 1 where they have failed.

    Raises: EngineError where the settings do not fit.
    """
    _require_address(scale)
    work = module_argv("engine.train", "work", "--join", str(workspace))
    is_whole = _run_agent(work, scale.address, scale, max_restarts, os.getppid(), is_host=False)
    return 0 if is_whole else 1


def _beat_for_all(store_path: Path) -> None:
    """Give signs of life while no leader does: other machines may be waited for, and a supervisor takes silence ill."""
    while True:
        with contextlib.suppress(BusyError, StoreError), contextlib.closing(RunStore(store_path)) as store:
            while True:
                newest = store.heartbeat("trainer")
                if newest is None or newest.pid == os.getpid() or not _is_alive(newest.pid):
                    phase = "waiting for all processes"
                    store.put(HeartbeatRow(role="trainer", pid=os.getpid(), at=time.time(), phase=phase))
                time.sleep(1.0)
        time.sleep(1.0)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _require_address(scale: ScaleSettings) -> None:
    host, _, port = scale.address.rpartition(":")
    if not host or not port.isdigit():
        raise EngineError(
            f"scale.address = {scale.address!r} is no HOST:PORT.",
            'Set it, on all machines, to where the one that leads is reached, e.g. "10.0.0.1:29400".',
        )


def _run_agent(
    work: list[str],
    endpoint: str,
    scale: ScaleSettings,
    max_restarts: int,
    parent_pid: int,
    *,
    is_host: bool,
) -> bool:
    """Run the agent to its end; False where the processes have failed too often."""
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    host, _, port = endpoint.rpartition(":")
    own_address = host if is_host else _address_towards(host, int(port))
    _set_environment(own_address, scale)
    config = LaunchConfig(
        min_nodes=scale.nodes,
        max_nodes=scale.nodes,
        nproc_per_node=scale.processes,
        run_id="llm-tui",
        rdzv_endpoint=endpoint,
        rdzv_backend="c10d",
        rdzv_configs={"is_host": is_host, "timeout": _JOIN_WITHIN_S, "join_timeout": _JOIN_WITHIN_S},
        max_restarts=max_restarts,
        monitor_interval=0.2,
        local_addr=own_address,
        # Of a run Ctrl-C is the viewer's; who has joined one by hand leaves by it.
        signals_to_handle="SIGTERM" if is_host else "SIGTERM,SIGINT",
    )
    _watch_parent(parent_pid)
    try:
        elastic_launch(config, work[0])(*work[1:])
    except SignalException:
        return True
    except (ChildFailedError, RendezvousError) as error:
        sys.stderr.write(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}\n")
        return False
    return True


def _set_environment(own_address: str, scale: ScaleSettings) -> None:
    """What the processes are to know before they start."""
    from engine.train.device import num_physical_cores

    threads = max(1, num_physical_cores() // scale.processes)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(SHUTDOWN_S))
    # A store that the agent keeps over a restart still has the addresses of the processes before it: whoever is first
    # reads them, and connects to nobody (torch 2.13, dynamic_rendezvous.py). So each start gets a store of its own.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    interface = _interface_of(own_address)
    if interface:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        if scale.nodes > 1:
            os.environ.setdefault("NCCL_SOCKET_IFNAME", interface)


def _address_towards(host: str, port: int) -> str:
    """The address of this machine from which the other one is reached; nothing is sent.

    Raises: EngineError where there is none.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, port))
            return str(probe.getsockname()[0])
    except OSError as error:
        raise EngineError(
            f"{host} cannot be reached: {error}.", "Check the address and the network."
        ) from error


def _interface_of(address: str) -> str | None:
    """The network interface that has an IPv4 address; None where it cannot be told. Source: netdevice(7)."""
    try:
        wanted = socket.inet_aton(socket.gethostbyname(address))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            for _, name in socket.if_nameindex():
                try:
                    request = struct.pack("256s", name.encode()[:15])
                    if fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)[20:24] == wanted:
                        return name
                except OSError:
                    continue  # an interface without an address
    except OSError:
        return None
    return None


def _watch_parent(parent_pid: int) -> None:
    """Once the supervisor is gone, end the agent as the system would: the processes save and leave."""

    def watch() -> None:
        while os.getppid() == parent_pid:
            time.sleep(_PARENT_EVERY_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def die_with_parent() -> None:
    """Have the kernel kill this process once the agent is gone: one that hangs would keep its GPU. Linux alone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def work(place: Path, *, joins: bool) -> int:
    """One of the processes, as the agent starts it; `place` is the run's folder, or a workspace where it `joins`."""
    die_with_parent()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from engine.train.team import ProcessTeam

    if joins or int(os.environ["LOCAL_RANK"]) > 0:
        return _work_behind(place if joins else RunFolder(place).workspace)
    folder = RunFolder(place)
    if int(os.environ["TORCHELASTIC_RESTART_COUNT"]) > 0:
        _enter_restart(folder)
    from engine.train.loop import train

    with contextlib.closing(ProcessTeam(is_leader=True)) as team:
        try:
            code = train(folder.path, os.getppid(), team)
        except EngineError as error:
            sys.stderr.write(f"{error}\n")
            code = TrainerExit.REFUSED
        _keep_exit(RunStore(folder.store_path), code)
    # What was saved because another process died is to be gone on with, by all.
    return 1 if code is TrainerExit.ORPHANED and team.is_broken else 0


def _work_behind(workspace: Path) -> int:
    """A process that follows: it ends when the leader says so, or with the connection to it."""
    from engine.train.follow import follow
    from engine.train.team import PeerLostError, ProcessTeam

    signal.signal(signal.SIGTERM, _end_in(_GRACE_S))
    try:
        with contextlib.closing(ProcessTeam(is_leader=False)) as team:
            follow(team, workspace)
    except EngineError as error:
        sys.stderr.write(f"{error}\n")
    except PeerLostError as error:
        sys.stderr.write(f"Another process of the training is gone: {error}\n")
        return 1
    return 0


def _end_in(seconds: float) -> Callable[[int, object], None]:
    """A handler of SIGTERM that leaves the leader time to save, and does not wait for ever."""

    def handle(number: int, frame: object) -> None:
        timer = threading.Timer(seconds, lambda: os._exit(TrainerExit.ORPHANED))
        timer.daemon = True
        timer.start()

    return handle


def _enter_restart(folder: RunFolder) -> None:
    """Another start of the trainer is another attempt, whoever has started it."""
    store = RunStore(folder.store_path)
    newest = store.newest(AttemptRow, "attempt")
    if newest is not None:
        now = time.time()
        checkpoint = store.newest_checkpoint()
        text = (
            "A process of the training ended; all of them are started again from the newest good checkpoint."
        )
        store.queue(
            EventRow(at=now, level="warning", source="trainer", kind="restart", text=text),
            msgspec.structs.replace(newest, ended_at=now, outcome="a process of it ended"),
            AttemptRow(
                attempt=newest.attempt + 1,
                at=now,
                pid=newest.pid,
                from_step=checkpoint.step if checkpoint else 0,
            ),
        )
    _flush(store)


def _keep_exit(store: RunStore, code: TrainerExit) -> None:
    store.queue(MetaRow(key=EXIT_FACT, value=str(int(code))))
    _flush(store)


def _flush(store: RunStore) -> None:
    deadline = time.monotonic() + 20.0
    while not store.flush():
        if time.monotonic() > deadline:
            raise RunFailedError("The run's store stays locked.", "Make room on its disk.")
        time.sleep(0.05)
    store.close()
