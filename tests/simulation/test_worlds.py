"""One core, two worlds: the same scenario gives the same strands in processes and in virtual time, on every host."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from protocol import labels_aer, labels_guest, labels_hypervisor
from protocol.labels import LABELS
from xenaer import local
from xenaer.campaign.file import load_script
from xenaer.campaign.steps.play import Runner
from xenaer.campaign.steps.script import Script
from xenaer.campaign.steps.system import System
from xenaer.journal import ECHOES, JournalSet, differences, entry, line, strands
from xenaer.simulation import SimSystem

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = Path(__file__).parent / "scenarios"
HOSTS = sorted(path.stem for path in (ROOT / "hosts").glob("*.yaml"))
SEEDS = (2, 3, 4, 5, 6)
PATIENCE_MS = 3_000  # instead of the 300 s that a guest has for its answers

Entry = dict[str, Any]


def scenario(name: str) -> Script:
    script = load_script(SCENARIOS / f"{name}.yaml")
    script.host.timing.aer_budget_ms = PATIENCE_MS
    script.host.timing.restart_pause_ms = 100
    return script


def play(system: System, script: Script) -> None:
    runner = Runner(system, script)
    good = runner.run()
    assert good, [result.line() for result in runner.results if not result.good]


def simulated(script: Script, seed: int | None = None) -> list[Entry]:
    system = SimSystem(script.host, seed)
    play(system, script)
    system.close()
    return system.records()[0]


def in_processes(script: Script) -> list[Entry]:
    with tempfile.TemporaryDirectory(prefix="xenaer-", ignore_cleanup_errors=True) as folder:
        run = Path(folder)
        local.up(script.host, run)
        try:
            system = local.ProcessSystem(run)
            play(system, script)
            system.close()
        finally:
            local.down(run)
        return JournalSet(run / "journal").read()


@lru_cache
def reference(name: str) -> list[Entry]:
    return simulated(scenario(name))


# -- the scenarios -----------------------------------------------------------------------------------
def test_every_shipped_host_has_a_scenario() -> None:
    assert sorted(path.stem for path in SCENARIOS.glob("*.yaml")) == HOSTS
    assert all(scenario(name).host.name == name for name in HOSTS)


@pytest.mark.parametrize("name", HOSTS)
def test_scenarios_have_every_kind_of_event(name: str) -> None:
    items = reference(name)
    severities = {item["severity"] for item in items if item["label"] == "aer.error"}
    labels = {item["label"] for item in items}
    contains = any(function.dpc for function in scenario(name).host.functions)  # then AER hears of nothing fatal
    assert severities == {"CORRECTABLE", "NONFATAL"} | (set() if contains else {"FATAL"})
    assert ("dpc.irq" in labels) == contains
    assert {"pciback.kill", "kill.step", "pci.attach", "pci.detach", "driver.workload", "domain.died"} <= labels
    outcomes = {item["outcome"] for item in items if item["label"] == "recovery.outcome"}
    assert {"recovered", "killed"} <= outcomes


# -- two worlds --------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", HOSTS)
def test_processes_and_virtual_time_write_the_same_journal(name: str) -> None:
    assert differences(reference(name), in_processes(scenario(name))) == []


def test_passthrough_is_alike_in_both_worlds() -> None:
    """Everything that the scenario does to a guest, with its device at the machine's own address."""
    script = scenario("one-nic")
    script.host.passthrough = True
    left = simulated(script)
    assert any(item["label"] == "driver.callback" and item["subject"] == "0000:01:00.0" for item in left)
    assert differences(left, in_processes(script)) == []


@pytest.mark.parametrize("failure", ["raise", "exit", "spin", "hang", "panic"])
def test_broken_guests_end_alike_in_both_worlds(failure: str, tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(BROKEN)
    script = load_script(file, ROOT / "hosts/one-nic.yaml")
    script.host.timing.aer_budget_ms = 1_500
    guest = script.host.guests[0]
    guest.on_crash = "destroy"
    driver = guest.devices[0].driver
    driver.driver, driver.options = "scripted", {"fail": {"mmio_enabled": failure}}
    left = simulated(script)
    assert differences(left, in_processes(script)) == []
    reasons = [item["reason"] for item in left if item["label"] == "domain.shutdown"]
    assert reasons == ([3] if failure == "panic" else [])  # SHUTDOWN_crash is reported, not only found out


BROKEN = """
name: broken
steps:
  - wait: {connected: net1}
  - inject: {device: nic0, errors: [CmpltTO]}
  - wait: {gone: net1}
  - expect: {verdict: {device: nic0, outcome: killed}, within_s: 10}
  - expect: {device: {device: nic0, state: clean}}
"""


# -- determinism -------------------------------------------------------------------------------------
def text_of(items: list[Entry]) -> list[str]:
    return [line(item) for item in items]


@pytest.mark.parametrize("name", HOSTS)
def test_the_same_seed_gives_the_same_journal_times_included(name: str) -> None:
    assert text_of(simulated(scenario(name))) == text_of(reference(name))


@pytest.mark.parametrize("name", HOSTS)
def test_another_seed_gives_another_order_of_the_same_strands(name: str) -> None:
    first = reference(name)
    order = [(item["party"], item["task"], item["label"]) for item in first]
    orders = []
    for seed in SEEDS:
        items = simulated(scenario(name), seed)
        assert differences(first, items) == [], seed
        orders.append([(item["party"], item["task"], item["label"]) for item in items])
    assert any(other != order for other in orders)


# -- what the comparison finds -----------------------------------------------------------------------
def where(items: list[Entry], condition: Callable[[Entry], bool]) -> int:
    return next(index for index, item in enumerate(items) if condition(item))


def test_a_changed_field_is_found() -> None:
    items = reference("letter")
    at = where(items, lambda item: item["label"] == "recovery.vote" and item["vote"] == "RECOVERED")
    wrong = [*items[:at], {**items[at], "vote": "DISCONNECT"}, *items[at + 1 :]]
    (text,) = differences(items, wrong)
    assert text.startswith("dom0 / irq/24-aerdrv / 0000:01:00.0: record ")
    left, right = text.split(" against ")
    assert "vote=RECOVERED" in left
    assert "vote=DISCONNECT" in right


def test_a_missing_record_is_found() -> None:
    items = reference("letter")
    at = where(items, lambda item: item["label"] == "kill.step" and item["step"] == "destroy")
    (text,) = differences(items, [*items[:at], *items[at + 1 :]])
    assert text.startswith("hypervisor / teardown bad / bad: record ")
    assert "step=destroy" in text
    assert " against nothing (" in text


def test_a_missing_strand_is_found() -> None:
    items = reference("letter")
    wrong = [item for item in items if item["party"] != "fresh"]
    texts = differences(items, wrong)
    assert len(texts) == sum(party == "fresh" for party, _, _ in strands(items))
    assert all(text.startswith("fresh / ") and " against nothing (0 records)" in text for text in texts)


def test_a_changed_order_inside_a_strand_is_found() -> None:
    items = list(reference("letter"))
    first = where(items, lambda item: item["label"] == "pciback.ask")
    strand = tuple(items[first][key] for key in ("party", "task", "subject"))
    second = where(items, lambda item: item["label"] == "pciback.answer" and strand == _place(item))
    items[first], items[second] = items[second], items[first]
    (text,) = differences(reference("letter"), items)
    assert "pciback.ask phase=error_detected" in text
    assert " against pciback.answer " in text


def _place(item: Entry) -> tuple[str, ...]:
    return item["party"], item["task"], item["subject"]


def test_a_log_line_of_a_recovery_that_differs_is_found() -> None:
    items = reference("letter")
    at = where(items, lambda item: item["label"] == "printk" and "device recovery successful" in item["text"])
    wrong = [*items[:at], {**items[at], "text": items[at]["text"].replace("successful", "failed")}, *items[at + 1 :]]
    (text,) = differences(items, wrong)
    assert "device recovery failed" in text


def test_no_label_has_two_meanings() -> None:
    """A name of two tables would give one party's records the other's field names."""
    tables = (labels_aer.LABELS, labels_guest.LABELS, labels_hypervisor.LABELS)
    assert len(set().union(*tables)) == sum(map(len, tables))
    assert all(LABELS[label] is fields for table in tables for label, fields in table.items())


@pytest.mark.parametrize("name", HOSTS)
def test_only_lines_about_xenbus_states_are_compared_as_a_set(name: str) -> None:
    """ORD-5. Nothing that a recovery, a kill or a guest writes is among them."""
    echoes = [item for item in reference(name) if item["label"] == "printk" and ECHOES.search(item["text"])]
    assert {(item["party"], item["task"]) for item in echoes} == {("dom0", "xenwatch")}
    kept = sum(len(records) for key, records in strands(reference(name)).items() if not key[2].endswith(" echoes"))
    assert kept == len(reference(name)) - len(echoes)


def echo(text: str) -> Entry:
    return entry("dom0", (0, "xenwatch", "printk", "", 7, f"xen-pciback pci-1-0: {text}"))


def test_what_the_environment_decides_is_not_compared() -> None:
    early = [echo(text) for text in ("fe state changed 1", "fe state changed 3", "Attached! gnt_ref=8 evtchn=9")]
    late = [echo(text) for text in ("fe state changed 3", "Attached! gnt_ref=9 evtchn=8", "fe state changed 3")]
    assert differences(early, late) == []
    (text,) = differences(early, early[:1] + early[2:])
    assert text.endswith("record 1: xen-pciback pci-1-0: fe state changed 3 against nothing (0 records)")
