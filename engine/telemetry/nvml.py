"""NVIDIA GPUs through NVML: the one place that calls it, and where its milli-units become SI.

Every NVML error code means one thing (`Fault`). A value that the driver does not tell is None. A GPU that is lost,
and a driver that is not there yet, are tried again with growing pauses: no restart is needed when they are back.
Source: NVML API reference guide, R575, 2025; each field names its call and the `nvidia-smi --query-gpu` key that
shows the same figure.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from engine.telemetry.nvml_words import FAULTS, Fault, throttle_words

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
_QUICK_TRIES = 10
"""So often a lost GPU is looked for at the first pause: most come back within seconds, or not for long."""


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """What does not change about a GPU while its driver is loaded."""

    index: int
    """NVML's, in the order of the PCI bus; CUDA's may differ."""
    uuid: str
    """nvmlDeviceGetUUID; `uuid`. "gpu-<index>" where the driver does not tell."""
    name: str
    """nvmlDeviceGetName; `name`. Raw text from outside."""
    capability: tuple[int, int] | None
    """nvmlDeviceGetCudaComputeCapability; `compute_cap`."""
    slowdown_celsius: float | None
    """nvmlDeviceGetTemperatureThreshold(SLOWDOWN); `nvidia-smi -q -d TEMPERATURE`. The board clocks down here."""
    shutdown_celsius: float | None
    """The same with SHUTDOWN: the board cuts its power here."""
    driver_version: str | None
    """nvmlSystemGetDriverVersion; `driver_version`."""
    driver_cuda: tuple[int, int] | None
    """nvmlSystemGetCudaDriverVersion: the newest CUDA that the driver runs; the head of `nvidia-smi`."""


class GpuReading(msgspec.Struct, frozen=True, kw_only=True):
    """What one GPU told at one moment; None is unknown."""

    gpu: Gpu
    celsius: float | None = None
    """nvmlDeviceGetTemperature; `temperature.gpu`."""
    watts: float | None = None
    """nvmlDeviceGetPowerUsage, mW; `power.draw`. As the driver tells it, believable or not."""
    limit_watts: float | None = None
    """nvmlDeviceGetEnforcedPowerLimit, mW; `enforced.power.limit`."""
    counter_j: float | None = None
    """nvmlDeviceGetTotalEnergyConsumption, mJ since the driver was loaded (Volta and later); no smi key."""
    util_frac: float | None = None
    """nvmlDeviceGetUtilizationRates().gpu, 0 to 1: share of the time with a kernel running; `utilization.gpu`."""
    memory_used_bytes: int | None = None
    """nvmlDeviceGetMemoryInfo; `memory.used` plus `memory.reserved`."""
    memory_free_bytes: int | None = None
    """`memory.free`."""
    memory_total_bytes: int | None = None
    """`memory.total`."""
    throttles: tuple[str, ...] | None = None
    """nvmlDeviceGetCurrentClocksEventReasons in words, idling left out; `clocks_event_reasons.active`. Empty: full
    clocks."""
    clock_mhz: float | None = None
    """nvmlDeviceGetClockInfo(SM); `clocks.sm`."""
    memory_clock_mhz: float | None = None
    """nvmlDeviceGetClockInfo(MEM); `clocks.mem`."""
    fan_frac: float | None = None
    """nvmlDeviceGetFanSpeed, 0 to 1 of its most, intended; `fan.speed`. Most laptops do not tell it."""
    is_lost: bool = False
    """Whether the GPU answered before and does not now."""


class GpuProcess(msgspec.Struct, frozen=True, kw_only=True):
    """A process that holds memory of a GPU."""

    gpu_uuid: str
    pid: int
    """In a container this is the host's number, which may name nothing here."""
    used_bytes: int | None
    """None where the driver does not tell (Windows, MIG, some laptops): unknown, not nothing."""
    kind: Literal["compute", "graphics", "both"]


class GpuSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Every GPU and who uses it, read once."""

    gpus: tuple[GpuReading, ...]
    """Empty: none can be read; `reason` says why."""
    processes: tuple[GpuProcess, ...] | None
    """None: a driver does not tell who uses the memory; empty: nobody does."""
    reason: str
    """Why there is no GPU, or why one is missing; empty where all is well."""
    has_unreadable_gpu: bool = False
    """Whether the machine has a GPU that cannot be read now."""


def read_snapshot() -> GpuSnapshot:
    """Every GPU and who uses it, now, in this very process: the driver may hang, or take the process down."""
    nvml = Nvml()
    gpus = nvml.read()
    processes = nvml.processes()
    answer = GpuSnapshot(
        gpus=tuple(gpu for gpu in gpus if not gpu.is_lost),
        processes=processes,
        reason=nvml.reason,
        has_unreadable_gpu=nvml.has_unreadable_gpu,
    )
    nvml.close()
    return answer


class _RefusedError(Exception):
    """NVML gave no value; `fault` says why. Never leaves this module."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.value)
        self.fault = fault


def _load() -> Any:
    import pynvml

    return pynvml


def _call(name: str, *arguments: Any) -> Any:
    """Call one function of pynvml. Raises: _RefusedError with the meaning of the error code."""
    library = _load()
    try:
        return getattr(library, name)(*arguments)
    except library.NVMLError as error:
        raise _RefusedError(FAULTS.get(error.value, Fault.UNKNOWN)) from None
    except UnicodeDecodeError:
        raise _RefusedError(Fault.NOT_SUPPORTED) from None


class Nvml:
    """A connection to the driver, opened when first used; one thread at a time may use it.

    Methods never raise for anything that the driver says or does not say.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._handles: dict[str, Any] = {}
        self._known: dict[str, Gpu] = {}
        self._lost: set[str] = set()
        self._is_open = False
        self._pause_s = _FIRST_PAUSE_S
        self._num_tries = 0
        self._retry_at_s = -1.0
        self.fault: Fault | None = None
        """Why no GPU answers, or why one is missing; None while all is well."""

    @property
    def reason(self) -> str:
        """`fault` as a sentence; empty while all is well."""
        return "" if self.fault is None else f"{self.fault.value[0].upper()}{self.fault.value[1:]}."

    @property
    def has_unreadable_gpu(self) -> bool:
        """Whether the machine has a GPU that cannot be read now."""
        return bool(self._lost) or (self.fault is not None and self.fault.has_gpu)

    def read(self) -> tuple[GpuReading, ...]:
        """Every GPU now; one that answered before and is gone is `is_lost`, with all its values None."""
        self._connect()
        return tuple(self._read_gpu(gpu) for gpu in self._known.values())

    def power(self, uuid: str, *, has_counter: bool = True) -> tuple[float | None, float | None]:
        """Watts and, unless it is not wanted, the energy counter in J of one GPU: the calls that are made often."""
        if uuid in self._lost or uuid not in self._handles:
            return None, None
        handle = self._handles[uuid]
        milliwatts = self._value(uuid, "nvmlDeviceGetPowerUsage", handle)
        millijoules = (
            self._value(uuid, "nvmlDeviceGetTotalEnergyConsumption", handle) if has_counter else None
        )
        return _milli(milliwatts), _milli(millijoules)

    def processes(self) -> tuple[GpuProcess, ...] | None:
        """Who holds memory of any GPU; None where a driver does not tell."""
        self._connect()
        if not self._handles:
            return None if self.has_unreadable_gpu else ()
        found: dict[tuple[str, int], GpuProcess] = {}
        for uuid, handle in self._handles.items():
            for kind, name in (
                ("compute", "nvmlDeviceGetComputeRunningProcesses"),
                ("graphics", "nvmlDeviceGetGraphicsRunningProcesses"),
            ):
                rows = self._value(uuid, name, handle)
                if rows is None:  # drivers before R510 have the second version alone
                    rows = self._value(uuid, f"{name}_v2", handle)
                if rows is None:
                    return None
                for row in rows:
                    key = (uuid, int(row.pid))
                    other = found.get(key)
                    found[key] = GpuProcess(
                        gpu_uuid=uuid,
                        pid=key[1],
                        used_bytes=_most(row.usedGpuMemory, other.used_bytes if other else None),
                        kind="both" if other else ("compute" if kind == "compute" else "graphics"),
                    )
        return tuple(found.values())

    def close(self) -> None:
        """Let go of the driver; the next use opens it again."""
        if self._is_open:
            self._is_open = False
            self._handles.clear()
            try:
                _call("nvmlShutdown")
            except _RefusedError as refused:
                self.fault = refused.fault

    def _connect(self) -> None:
        """Open the driver, or open it again after a loss, unless it is too soon to try."""
        is_well = self._is_open and self._handles and not self._lost
        if is_well or self._clock() < self._retry_at_s:
            return
        self.close()
        try:
            _call("nvmlInit")
            self._is_open = True
            self._enumerate()
        except _RefusedError as refused:
            self.fault = refused.fault
            self._lost = set(self._known)
        else:
            self._lost = set(self._known) - set(self._handles)
            if self._handles:
                self.fault = Fault.LOST if self._lost else self.fault
        if self._handles and not self._lost and self.fault is None:
            self._pause_s, self._num_tries, self._retry_at_s = _FIRST_PAUSE_S, 0, -1.0
        else:
            self._wait_longer()

    def _wait_longer(self) -> None:
        self._retry_at_s = self._clock() + self._pause_s
        self._num_tries += 1
        if self._num_tries > _QUICK_TRIES:
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def _enumerate(self) -> None:
        count = _call("nvmlDeviceGetCount")
        self.fault = None if count else Fault.NO_GPU
        for index in range(count):
            try:
                handle = _call("nvmlDeviceGetHandleByIndex", index)
                gpu = self._describe(index, handle)
            except _RefusedError as refused:
                self.fault = refused.fault
                continue
            self._handles[gpu.uuid] = handle
            self._known[gpu.uuid] = gpu

    def _describe(self, index: int, handle: Any) -> Gpu:
        library = _load()
        uuid = _optional("nvmlDeviceGetUUID", handle) or f"gpu-{index}"
        capability = _optional("nvmlDeviceGetCudaComputeCapability", handle)
        cuda = _optional("nvmlSystemGetCudaDriverVersion")
        return Gpu(
            index=index,
            uuid=uuid,
            name=_optional("nvmlDeviceGetName", handle) or "NVIDIA GPU",
            capability=tuple(capability) if capability else None,
            slowdown_celsius=_threshold(handle, library.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN),
            shutdown_celsius=_threshold(handle, library.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN),
            driver_version=_optional("nvmlSystemGetDriverVersion"),
            driver_cuda=(cuda // 1000, cuda % 1000 // 10) if cuda else None,
        )

    def _read_gpu(self, gpu: Gpu) -> GpuReading:
        uuid = gpu.uuid
        if uuid in self._lost or uuid not in self._handles:
            return GpuReading(gpu=gpu, is_lost=True)
        handle = self._handles[uuid]
        celsius = self._value(uuid, "nvmlDeviceGetTemperature", handle, _load().NVML_TEMPERATURE_GPU)
        watts, counter_j = self.power(uuid)
        limit_watts = _milli(self._value(uuid, "nvmlDeviceGetEnforcedPowerLimit", handle))
        rates = self._value(uuid, "nvmlDeviceGetUtilizationRates", handle)
        memory = self._value(uuid, "nvmlDeviceGetMemoryInfo", handle)
        clock_mhz = self._value(uuid, "nvmlDeviceGetClockInfo", handle, _load().NVML_CLOCK_SM)
        memory_clock_mhz = self._value(uuid, "nvmlDeviceGetClockInfo", handle, _load().NVML_CLOCK_MEM)
        fan_pct = self._value(uuid, "nvmlDeviceGetFanSpeed", handle)
        throttles = self._throttles(uuid, handle)
        if uuid in self._lost:
            return GpuReading(gpu=gpu, is_lost=True)
        return GpuReading(
            gpu=gpu,
            celsius=None if celsius is None else float(celsius),
            watts=watts,
            limit_watts=limit_watts or None,
            counter_j=counter_j,
            util_frac=None if rates is None else rates.gpu / 100,
            memory_used_bytes=None if memory is None else int(memory.used),
            memory_free_bytes=None if memory is None else int(memory.free),
            memory_total_bytes=None if memory is None else int(memory.total),
            throttles=throttles,
            clock_mhz=None if clock_mhz is None else float(clock_mhz),
            memory_clock_mhz=None if memory_clock_mhz is None else float(memory_clock_mhz),
            fan_frac=None if fan_pct is None else fan_pct / 100,
        )

    def _throttles(self, uuid: str, handle: Any) -> tuple[str, ...] | None:
        bits = self._value(uuid, "nvmlDeviceGetCurrentClocksEventReasons", handle)
        if bits is None:  # drivers before R535 have the older name alone
            bits = self._value(uuid, "nvmlDeviceGetCurrentClocksThrottleReasons", handle)
        return None if bits is None else throttle_words(bits)

    def _value(self, uuid: str, name: str, *arguments: Any) -> Any:
        """One value of one GPU, None where there is none; a GPU found lost is marked so."""
        if uuid in self._lost:
            return None
        try:
            return _call(name, *arguments)
        except _RefusedError as refused:
            if refused.fault is Fault.LOST:
                self._lost.add(uuid)
                self.fault = Fault.LOST
                self._wait_longer()
            return None


def _optional(name: str, *arguments: Any) -> Any:
    """A value that may be missing; a lost GPU is still raised."""
    try:
        return _call(name, *arguments)
    except _RefusedError as refused:
        if refused.fault is Fault.LOST:
            raise
        return None


def _threshold(handle: Any, which: int) -> float | None:
    celsius = _optional("nvmlDeviceGetTemperatureThreshold", handle, which)
    return None if celsius is None else float(celsius)


def _milli(value: int | None) -> float | None:
    return None if value is None else value / 1000


def _most(first: int | None, second: int | None) -> int | None:
    """The larger of two; a process that computes and draws is listed twice, with the same memory."""
    known = [value for value in (first, second) if value is not None]
    return max(known) if known else None
