"""Compares the memory formula with every tensor of a training step, over presets, formats, optimizers and sizes.

Run: python -m bench.footprint [--presets tiny,134m] [--sizes 1,4,16]. Nothing is trained; the module accounting among
the tests of the engine says how the tensors are counted, and what is not. Prints two tables in Markdown; about ten
minutes for the whole grid.
"""

from __future__ import annotations

import argparse
import sys
from itertools import product

from engine.footprint import memory_parts
from engine.shape import PRESETS
from tests.engine.train.accounting import Case, peak_bytes

_MIB = 2**20
_WAYS = (("bf16", "muon"), ("bf16", "adamw"), ("fp32", "muon"))


def predicted_bytes(case: Case) -> int:
    """By the formula, without what the process or the CUDA context takes."""
    parts = memory_parts(
        case.shape,
        device_kind=case.kind,
        precision=case.precision,
        optimizer=case.optimizer,
        micro_batch=case.micro_batch,
        num_recomputed_blocks=case.num_recomputed_blocks,
    )
    return sum(parts.values()) - parts["workspace"]


def main() -> None:
    """Count, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--presets", default=",".join(PRESETS))
    parser.add_argument("--sizes", default="1,4,16", help="micro-batches")
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    ranges = []
    print(
        "| preset | run on | format, optimizer | micro-batch | blocks recomputed | counted MiB | predicted / counted |"
    )
    print("|---|---|---|---|---|---|---|")
    for preset, kind, (precision, optimizer) in product(options.presets.split(","), ("cuda", "cpu"), _WAYS):
        shape, ratios = PRESETS[preset], []
        for size, number in product(sizes, (0, shape.n_layer // 2, shape.n_layer)):
            case = Case(shape, kind, precision, optimizer, size, number)  # type: ignore[arg-type]
            counted = peak_bytes(case)
            ratios.append(predicted_bytes(case) / counted)
            print(
                f"| {preset} | {kind} | {precision}, {optimizer} | {size} | {number} of {shape.n_layer} | "
                f"{counted / _MIB:,.0f} | {ratios[-1]:.3f} |"
            )
            sys.stdout.flush()
        ranges.append(
            f"| {preset} | {kind} | {precision}, {optimizer} | {min(ratios):.3f} to {max(ratios):.3f} |"
        )
    print("\n| preset | run on | format, optimizer | predicted / counted |\n|---|---|---|---|")
    print("\n".join(ranges))


if __name__ == "__main__":
    main()
