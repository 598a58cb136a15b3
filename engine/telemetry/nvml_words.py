"""NVML's error codes and throttle bits in words: what each means, here and nowhere else."""

from __future__ import annotations

from enum import StrEnum


class Fault(StrEnum):
    """Why NVML gave no value; the text is what a person is told."""

    NOT_SUPPORTED = "this GPU or driver does not tell it"
    NO_DRIVER = "no NVIDIA driver is loaded"
    NO_LIBRARY = "no NVIDIA driver is installed (libnvidia-ml.so.1 is missing)"
    MISMATCH = "the NVIDIA driver was updated while it was in use: restart the machine"
    NO_PERMISSION = "this user may not read the GPU"
    LOST = "the GPU is lost: it fell off the bus or needs a reset"
    NO_POWER_CABLE = "the GPU's power cable is not attached"
    SILENT = "the NVIDIA driver does not answer"
    NO_GPU = "the NVIDIA driver sees no GPU"
    UNKNOWN = "the NVIDIA driver answered with an error"

    @property
    def has_gpu(self) -> bool:
        """Whether a GPU must be in the machine although it cannot be read."""
        return self not in (Fault.NO_DRIVER, Fault.NO_LIBRARY, Fault.NO_GPU)


FAULTS = {
    1: Fault.LOST,  # UNINITIALIZED: the connection is gone
    3: Fault.NOT_SUPPORTED,
    4: Fault.NO_PERMISSION,
    6: Fault.NOT_SUPPORTED,  # NOT_FOUND
    8: Fault.NO_POWER_CABLE,
    9: Fault.NO_DRIVER,
    10: Fault.SILENT,  # TIMEOUT
    11: Fault.UNKNOWN,  # IRQ_ISSUE
    12: Fault.NO_LIBRARY,
    13: Fault.NOT_SUPPORTED,  # FUNCTION_NOT_FOUND: the driver is older than the call
    14: Fault.UNKNOWN,  # CORRUPTED_INFOROM
    15: Fault.LOST,
    16: Fault.LOST,  # RESET_REQUIRED
    17: Fault.UNKNOWN,  # OPERATING_SYSTEM
    18: Fault.MISMATCH,
    21: Fault.NOT_SUPPORTED,  # NO_DATA
    25: Fault.NOT_SUPPORTED,  # ARGUMENT_VERSION_MISMATCH
    26: Fault.NOT_SUPPORTED,  # DEPRECATED
    27: Fault.SILENT,  # NOT_READY
    28: Fault.LOST,  # GPU_NOT_FOUND
}
"""By NVML_ERROR_*, of nvml.h; what is not listed is UNKNOWN."""


# nvmlClocksEventReason*, of nvml.h.
_IDLE = "idle"
_THROTTLES = {
    0x001: _IDLE,
    0x002: "clocks set by hand",
    0x004: "power limit",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "thermal slowdown",
    0x040: "hardware thermal slowdown",
    0x080: "power brake",
    0x100: "display clock",
    0x200: "board limit",
    0x400: "reliability limit",
}
HARMFUL_THROTTLES = frozenset(
    ("hardware slowdown", "thermal slowdown", "hardware thermal slowdown", "power brake")
)
"""Throttling that something is wrong with: heat, or a supply that gives way. A board at its power limit is at work."""


def throttle_words(bits: int) -> tuple[str, ...]:
    """What holds the clocks down, in words, by NVML's bits; a bit of a newer driver is told by its number."""
    known = [word for bit, word in _THROTTLES.items() if bits & bit and word is not _IDLE]
    unknown_bits = bits & ~sum(_THROTTLES)
    return (*known, f"reason {unknown_bits:#x}") if unknown_bits else tuple(known)
