"""``xenaer bench``: how fast the product is, as ratios against a raw baseline of the same run.

Absolute times on a busy machine mean little, and unpinned ones are bimodal; so the processes that talk are
pinned to one processor, and batches of the real thing alternate with batches of a bare ping-pong there.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from protocol.topology import HostSpec
from xenaer import local
from xenaer.bench_aer import golden_cases, storm
from xenaer.bench_campaign import campaigns
from xenaer.bench_explore import interleavings
from xenaer.bench_pytest import pytest_cost
from xenaer.bench_raw import RawPing, pin
from xenaer.bench_report import reports
from xenaer.boot import activate, data_dir
from xenaer.host import load_host
from xenaer.launcher import free_port

ROUNDS = 20
READS = 200  # configuration reads, and raw pings, per round
RECOVERIES = 50  # per round
KILLS = 15
STARTS = 7
SIMULATED = 1500
COMP_ABORT = 1 << 15  # an uncorrectable non-fatal error
DEVICE = "0000:01:00.0"
PHASES = 3
SPACING_MS = 600  # virtual time between errors: the rate limit of the log lets every line through

Figures = dict[str, Any]
GOALS = {
    "config_read_vs_raw": ("at most", 1.6),
    "recovery_vs_raw": ("at most", 2.5),
    "simulated_recoveries_per_s": ("at least", 3000),
    "golden_cases_per_s": ("at least", 300),
    "storm_errors_per_s": ("at least", 50_000),
    "interleavings_per_s": ("at least", 3000),
    "curve_vs_tcp": ("at most", 1.5),
    "channel_curve_vs_tcp": ("at most", 1.5),
    "kill_ms": ("at most", 10),
    "restart_ms": ("at most", 50),
    "up_ready_ms": ("at most", 1500),
    "campaign_cases_per_s": ("at least", 1500),
    "campaign_scaling": ("at least", 1.8),
    "campaign_process_cases_per_s": ("at least", 40),
    "report_s": ("at most", 20),
    "pytest_case_ms": ("at most", 3),
}


def main(as_json: bool) -> int:
    """Measure everything and print it; always 0, since a slow machine is not a mistake."""
    result: dict[str, Figures] = {}
    for measure in MEASURES:
        result.update(measure())
    if as_json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        for key, figures in result.items():
            word, goal = GOALS[key]
            raw = f"   raw p50 {figures['raw_p50_us']:.1f} us" if "raw_p50_us" in figures else ""
            line = f"{key:28} p50 {figures['p50']:10.2f}   p99 {figures['p99']:10.2f}   n {figures['n']:6}"
            sys.stdout.write(f"{line}   goal {word} {goal}{raw}\n")
    return 0


def _figures(values: list[float], **more: Any) -> Figures:
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return {"p50": median(ordered), "p99": p99, "n": len(ordered), **more}


# -- virtual time --------------------------------------------------------------------------------
def simulated() -> dict[str, Figures]:
    """Complete recoveries of three phases per second of processor time, journal in memory."""
    from xenaer.simulation import SimSystem  # noqa: PLC0415 - loads all roles

    system = SimSystem(_bench_host())
    rates = []
    for _ in range(10):
        begin = time.process_time()
        for _ in range(SIMULATED // 10):
            system.ctl("dom0", "inject", [DEVICE, 0, COMP_ABORT])
            system.advance(SPACING_MS)
        rates.append(SIMULATED / 10 / (time.process_time() - begin))
    ended = sum(record[2] == "recovery.end" for _, record in system.raw_records())
    assert ended == SIMULATED, f"{ended} of {SIMULATED} recoveries ended"
    return {"simulated_recoveries_per_s": _figures(rates) | {"n": SIMULATED}}


def _bench_host() -> HostSpec:
    host = load_host(data_dir("hosts") / "one-nic.yaml")
    host.guests[0].devices[0].driver.driver = "xenaer.bench_driver:BenchDriver"
    host.guests[0].devices[0].driver.options = {}
    return host


# -- processes against the raw baseline --------------------------------------------------------------
@contextlib.contextmanager
def _running(host: HostSpec, transport: str = "ipc") -> Iterator[tuple[local.ProcessSystem, Path]]:
    with tempfile.TemporaryDirectory(prefix="xb-", ignore_cleanup_errors=True) as folder:
        run = Path(folder)
        local.up(host, run, transport)
        system = local.ProcessSystem(run)
        try:
            yield system, run
        finally:
            system.close()
            local.down(run)


def _pin_all(run: Path, cpu: int) -> None:
    """Pin every process of the system in ``run``."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if str(run).encode() in (entry / "cmdline").read_bytes():
                    pin(int(entry.name), cpu)


def against_raw() -> dict[str, Figures]:
    """Configuration reads and recoveries over processes, each divided by the raw ping-pong of its round."""
    cpu = max(os.sched_getaffinity(0))
    free = os.sched_getaffinity(0)
    reads: list[float] = []
    recoveries: list[float] = []
    raws: list[float] = []
    with _running(_bench_host()) as (system, run):
        _pin_all(run, cpu)
        raw = RawPing(f"ipc://{run}/raw", cpu)
        try:
            for _ in range(ROUNDS):
                base = float(median(raw.samples(READS)))
                raws.append(base)
                reads += [sample / base for sample in _config_reads(system)]
                recoveries += [sample / (PHASES * base) for sample in _recoveries(system)]
        finally:
            raw.close()
            _unpin(free)
    raw_us = median(raws) / 1000
    return {
        "config_read_vs_raw": _figures(reads, raw_p50_us=raw_us),
        "recovery_vs_raw": _figures(recoveries, raw_p50_us=raw_us),
    }


def _unpin(free: set[int]) -> None:
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), free)


def curve() -> dict[str, Figures]:
    """What keys cost over tcp: a raw round trip and one of the real channel, each divided by the plain one."""
    cpu, free = max(os.sched_getaffinity(0)), os.sched_getaffinity(0)
    raw: list[float] = []
    real: list[float] = []
    with _running(_bench_host(), "tcp-plain") as plain, _running(_bench_host(), "tcp") as keyed:
        pings = [RawPing(f"tcp://127.0.0.1:{free_port()}", cpu, curve=on) for on in (False, True)]
        try:
            for _, run in (plain, keyed):
                _pin_all(run, cpu)
            for _ in range(ROUNDS):
                without, with_keys = (float(median(ping.samples(READS))) for ping in pings)
                raw.append(with_keys / without)
                without, with_keys = (float(median(_config_reads(system))) for system, _ in (plain, keyed))
                real.append(with_keys / without)
        finally:
            for ping in pings:
                ping.close()
            _unpin(free)
    return {"curve_vs_tcp": _figures(raw), "channel_curve_vs_tcp": _figures(real)}


def _config_reads(system: local.ProcessSystem) -> list[int]:
    system.ctl("net1", "workload", [-1, READS])
    found = _await(system, lambda e: e["label"] == "bench.config_read", 1)
    samples: list[int] = list(found[0]["samples_ns"])
    return samples


def _recoveries(system: local.ProcessSystem) -> list[int]:
    """Times from the error in the device to the end of its recovery, one after the other, in ns."""
    system.ctl("dom0", "inject-repeat", [DEVICE, 0, COMP_ABORT, RECOVERIES])
    found = _await(system, lambda e: e["label"] in ("hw.inject", "recovery.end"), 2 * RECOVERIES)
    return [round((end["t"] - begin["t"]) * 1e9) for begin, end in zip(found[::2], found[1::2], strict=True)]


def _await(system: local.ProcessSystem, wanted: Callable[[dict[str, Any]], bool], count: int) -> list[dict[str, Any]]:
    """The next ``count`` records that are wanted."""
    found: list[dict[str, Any]] = []
    deadline = time.monotonic() + 30
    while len(found) < count:
        found += [entry for entry in system.records()[0] if wanted(entry)]
        if time.monotonic() > deadline:
            raise local.LocalError("the system does not get on; see its journals")
        time.sleep(0.001)
    return found


# -- killing and starting --------------------------------------------------------------------------
def kill_and_restart() -> dict[str, Figures]:
    """``aerfail`` to dead process; and a guest's restart to Connected, without the device's own reset times."""
    host = _bench_host()
    host.guests[0].devices[0].driver.driver = "silent"
    host.guests[0].on_crash = "restart"
    host.timing.restart_pause_ms = host.timing.reset_settle_ms = 0
    for function in host.functions:
        function.ready_ms = 0
    kills, restarts = [], []
    with _running(host) as (system, run):
        _pin_all(run, max(os.sched_getaffinity(0)))  # guests are forked, and so stay there
        _await(system, lambda e: _mark(e) == "connected", 1)
        for _ in range(KILLS):
            system.ctl("dom0", "inject", [DEVICE, 0, COMP_ABORT])
            marks = {_mark(entry): entry["t"] for entry in _await(system, lambda e: _mark(e) != "", 4)}
            kills.append((marks["died"] - marks["aerfail"]) * 1000)
            restarts.append((marks["connected"] - marks["restart"]) * 1000)
    return {"kill_ms": _figures(kills), "restart_ms": _figures(restarts)}


def _mark(entry: dict[str, Any]) -> str:
    """What a record tells about a kill and a restart."""
    if entry["label"] == "printk":
        return "connected" if entry.get("text", "").endswith("fe state changed 4") else ""
    return {"pciback.kill": "aerfail", "domain.died": "died", "domain.restart": "restart"}.get(entry["label"], "")


def up_ready() -> dict[str, Figures]:
    """``xenaer up`` of the first host, as a command, until it says that the host is ready."""
    times = []
    for _ in range(STARTS):
        with tempfile.TemporaryDirectory(prefix="xb-", ignore_cleanup_errors=True) as folder:
            command = [sys.executable, "-m", "xenaer", "up", "one-nic", "--run", folder]
            begin = time.monotonic()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=activate())
            times.append((time.monotonic() - begin) * 1000)
            local.down(Path(folder))
    return {"up_ready_ms": _figures(times)}


MEASURES: tuple[Callable[[], dict[str, Figures]], ...] = (
    simulated, golden_cases, storm, interleavings, campaigns, pytest_cost, reports, against_raw, curve,
    kill_and_restart, up_ready,
)  # fmt: skip
