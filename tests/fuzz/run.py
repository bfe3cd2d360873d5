"""``scripts/fuzz``: the long run. Prints a line per target; new inputs that are worth keeping go into the corpus."""

from __future__ import annotations

import argparse
import gc
import sys
import time
from pathlib import Path

from tests.fuzz.engine import Fuzzer
from tests.fuzz.targets import TARGETS

MIB = 1024 * 1024
GROWTH_MAX = 64 * MIB  # of this process while one target runs: anything that is kept per input would show


def resident() -> int:
    """Bytes of memory that this process has."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def run(name: str, count: int, seed: int) -> Fuzzer:
    """Fuzz one target; its memory must not grow with the number of inputs."""
    row = TARGETS[name]
    fuzzer = Fuzzer(name, row.make(), row.seeds, seed)
    before = resident()
    fuzzer.run(count)
    grown = resident() - before
    assert grown < GROWTH_MAX, f"{name}: {grown / MIB:.0f} MiB more after {count} inputs"
    return fuzzer


def main() -> int:
    """0 if nothing was found."""
    parser = argparse.ArgumentParser(description="Fuzz every decoder and what lies behind it.")
    parser.add_argument("--inputs", type=int, default=1_000_000, help="how many, over all targets (default 1000000)")
    parser.add_argument("--seed", type=int, default=1, help="of the mutations (default 1)")
    parser.add_argument("--target", choices=list(TARGETS), help="only this one")
    options = parser.parse_args()
    names = [options.target] if options.target else list(TARGETS)
    shares = sum(TARGETS[name].share for name in names)
    for name in names:
        begin, count = time.monotonic(), -(-options.inputs * TARGETS[name].share // shares)
        fuzzer = run(name, count, options.seed)
        places, found = len(fuzzer.coverage.seen), len(fuzzer.found)
        fuzzer.save()
        seconds = time.monotonic() - begin
        sys.stdout.write(
            f"{name:22} {count:8} inputs {seconds:7.1f} s {places:6} places reached, {found} inputs kept\n"
        )
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
