"""What a processor can compute and draw, by its name: the figures behind every time that was not measured.

Peaks are dense matrix products in bf16 (fp16 where a chip lacks it) with fp32 accumulation, from NVIDIA's data
sheets and white papers as of 2025: GA102 (consumer Ampere: half the fp16-accumulating rate), Ada, A10/A10G,
A100, H100/H200, L4, L40S, T4. The RTX 2050 is 64 tensor cores x 128 FLOP x 1.19-1.48 GHz = 10 to 12 TFLOP/s.
"""

from __future__ import annotations

import functools
import math
import re
from pathlib import Path
from typing import Literal

import msgspec

from engine.records import Device

_UTILISATION_FRAC = (0.30, 0.45)
"""Share of the peak to expect of a tuned loop at about 0.1B; an untuned one has been seen at 0.12 to 0.16."""
USUAL_FLOP_PER_BYTE = {"cuda": 50.0, "cpu": 10.0}
"""Sustained arithmetic for each byte that memory can move meanwhile: the GPUs of the table lie between 26 (RTX 3060)
and 157 (L40S); a CPU with AMX and a share of a server's memory is near 10."""


class Chip(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU model."""

    name: str
    peak_flops: float
    """FLOP/s, dense bf16 or fp16 with fp32 accumulation."""
    board_watts: float
    """The board's rated power; a laptop's maker may set less."""
    bandwidth_bytes_per_s: float
    """Of the device's memory, by the data sheet; of several editions the slowest."""
    utilisation_frac: tuple[float, float] = _UTILISATION_FRAC
    """Lowest and highest share of the peak to expect of training, 0 to 1."""

    @property
    def sustained_flops(self) -> float:
        """FLOP/s to expect of training: the middle of the range."""
        low, high = self.utilisation_frac
        return self.peak_flops * (low + high) / 2


# Of two names that both fit, the first counts. A T4 falls back to its base clock at 70 W: 14 to 20 h for
# the 7.1e17 FLOP of the 134m run, which is 15 to 22 % of its peak.
_CHIPS = (
    Chip(name="RTX 2050", peak_flops=11.0e12, board_watts=45, bandwidth_bytes_per_s=112e9),
    Chip(name="RTX 3060", peak_flops=25.5e12, board_watts=170, bandwidth_bytes_per_s=360e9),
    Chip(name="RTX 3070", peak_flops=40.6e12, board_watts=220, bandwidth_bytes_per_s=448e9),
    Chip(name="RTX 3080", peak_flops=59.5e12, board_watts=320, bandwidth_bytes_per_s=760e9),
    Chip(name="RTX 3090", peak_flops=71.0e12, board_watts=350, bandwidth_bytes_per_s=936e9),
    Chip(name="RTX 4080", peak_flops=97.5e12, board_watts=320, bandwidth_bytes_per_s=717e9),
    Chip(name="RTX 4090", peak_flops=165.2e12, board_watts=450, bandwidth_bytes_per_s=1008e9),
    Chip(name="RTX A6000", peak_flops=154.8e12, board_watts=300, bandwidth_bytes_per_s=768e9),
    Chip(
        name="T4",
        peak_flops=65.0e12,
        board_watts=70,
        bandwidth_bytes_per_s=320e9,
        utilisation_frac=(0.15, 0.22),
    ),
    Chip(name="A10G", peak_flops=70.0e12, board_watts=150, bandwidth_bytes_per_s=600e9),
    Chip(name="A10", peak_flops=125.0e12, board_watts=150, bandwidth_bytes_per_s=600e9),
    Chip(name="L4", peak_flops=121.0e12, board_watts=72, bandwidth_bytes_per_s=300e9),
    Chip(name="L40S", peak_flops=362.0e12, board_watts=350, bandwidth_bytes_per_s=864e9),
    Chip(name="A100", peak_flops=312.0e12, board_watts=400, bandwidth_bytes_per_s=1555e9),
    Chip(name="H100 PCIe", peak_flops=756.0e12, board_watts=350, bandwidth_bytes_per_s=2000e9),
    Chip(name="H100", peak_flops=989.0e12, board_watts=700, bandwidth_bytes_per_s=3350e9),
    Chip(name="H200", peak_flops=989.0e12, board_watts=700, bandwidth_bytes_per_s=4800e9),
)


def find_chip(name: str) -> Chip | None:
    """The GPU that a driver's or a provider's name speaks of; None where it is not in the table.

    A laptop's part and a variant (Laptop, Mobile, Max-Q, Ti, SUPER) shares the name and little else of a chip,
    so that it counts as unknown.
    """
    words = [word.lower() for word in re.split(r"[\s\-_/]+", name)]
    if any(word in ("laptop", "mobile", "max", "ti", "super") for word in words):
        return None
    return next((chip for chip in _CHIPS if set(chip.name.lower().split()) <= set(words)), None)


class CpuClass(msgspec.Struct, frozen=True, kw_only=True):
    """What one core of a family of CPUs sustains when training a small model."""

    name: str
    low_flops: float
    """FLOP/s a core."""
    high_flops: float
    has_fast_bf16: bool
    """Whether torch multiplies bf16 at least as fast as fp32 here (oneDNN needs AVX-512, or Arm's bf16)."""

    @property
    def sustained_flops(self) -> float:
        """FLOP/s a core to expect: the geometric middle of a wide range."""
        return math.sqrt(self.low_flops * self.high_flops)


# AMX: 140 (tiny, optimizer included) to 228 GFLOP/s (15m) measured on one virtual core of a Sapphire Rapids Xeon,
# eager bf16, by CPU time; less where two virtual cores are one real one. The others are scaled from their peaks.
_CPU_CLASSES: tuple[tuple[frozenset[str], CpuClass], ...] = (
    (
        frozenset({"amx_bf16"}),
        CpuClass(name="AMX bf16", low_flops=80e9, high_flops=230e9, has_fast_bf16=True),
    ),
    (
        frozenset({"avx512_bf16"}),
        CpuClass(name="AVX-512 bf16", low_flops=40e9, high_flops=120e9, has_fast_bf16=True),
    ),
    (
        frozenset({"avx512bw", "avx512vl", "avx512dq"}),
        CpuClass(name="AVX-512", low_flops=25e9, high_flops=60e9, has_fast_bf16=True),
    ),
    (
        frozenset({"bf16", "asimd"}),
        CpuClass(name="Arm bf16", low_flops=25e9, high_flops=100e9, has_fast_bf16=True),
    ),
    (
        frozenset({"avx2", "fma"}),
        CpuClass(name="AVX2", low_flops=15e9, high_flops=45e9, has_fast_bf16=False),
    ),
)
_OTHER_CPU = CpuClass(name="unknown instruction set", low_flops=5e9, high_flops=40e9, has_fast_bf16=False)


@functools.cache
def cpu_flags() -> frozenset[str]:
    """The instruction sets of this machine's CPU; empty where the system does not tell.

    Source: /proc/cpuinfo, "flags" on x86, "Features" on Arm (`lscpu` shows the same).
    """
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return frozenset(found.group(1).split()) if found else frozenset()


def cpu_class(flags: frozenset[str]) -> CpuClass:
    """The best family whose instruction sets are all there."""
    return next((kind for wanted, kind in _CPU_CLASSES if wanted <= flags), _OTHER_CPU)


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """How fast a device trains, by its data alone."""

    flops: float | None
    """FLOP/s to expect; None where the device is not in the table."""
    basis: str
    """What the figure rests on, in a sentence."""
    low_flops: float | None = None
    high_flops: float | None = None
    """The range of `flops`; None where that is."""


def throughput(device: Device) -> Throughput:
    """What the device should sustain in training, with where that comes from."""
    if device.kind == "cpu":
        kind = cpu_class(cpu_flags())
        return Throughput(
            flops=kind.sustained_flops * device.num_cores,
            basis=f"formula: {device.num_cores} cores of {kind.low_flops / 1e9:.0f} to "
            f"{kind.high_flops / 1e9:.0f} GFLOP/s each ({kind.name}); not measured on this machine",
            low_flops=kind.low_flops * device.num_cores,
            high_flops=kind.high_flops * device.num_cores,
        )
    chip = find_chip(device.name)
    if chip is None:
        return Throughput(
            flops=None, basis="unknown: this GPU is not in the table and has no earlier run here"
        )
    low, high = chip.utilisation_frac
    return Throughput(
        flops=chip.sustained_flops,
        basis=f"formula: {low:.0%} to {high:.0%} of {chip.peak_flops / 1e12:g} TFLOP/s "
        f"({chip.name}, data sheet); not measured on this machine",
        low_flops=low * chip.peak_flops,
        high_flops=high * chip.peak_flops,
    )


class MemoryTraffic(msgspec.Struct, frozen=True, kw_only=True):
    """What moving a byte of the device's memory costs."""

    flop_per_byte: float
    """Arithmetic that the device sustains in the time a byte takes."""
    source: Literal["data sheet", "usual ratio"]


def memory_traffic(device: Device) -> MemoryTraffic:
    """By the device's data sheet; the usual ratio where it is not in the table, as no CPU is."""
    chip = find_chip(device.name) if device.kind == "cuda" else None
    if chip is None:
        return MemoryTraffic(flop_per_byte=USUAL_FLOP_PER_BYTE[device.kind], source="usual ratio")
    return MemoryTraffic(flop_per_byte=chip.sustained_flops / chip.bandwidth_bytes_per_s, source="data sheet")
