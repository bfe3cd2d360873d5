"""Faults as people write them: every mistake is told with place and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from xenaer.boot import data_dir
from xenaer.campaign.file import load_script
from xenaer.campaign.steps.script import ScriptError

ONE_NIC = data_dir("hosts") / "one-nic.yaml"
HEAD = f"name: x\nhost: {ONE_NIC}\nsteps:\n"

# One step, where the mistake is, words that the message must have
MISTAKES = [
    ("inject: {errors: [CmpltTO]}", "inject", ["exactly one of: device, devices"]),
    ("inject: {device: nic0}", "inject", ["at least one of: errors, correctable, uncorrectable"]),
    ("inject: {device: nic0, correctable: 0x2}", "inject", ["correctable: 0x2", "allowed: bits of 0x"]),
    ("inject: {device: nic0, uncorrectable: 0}", "inject", ["uncorrectable: 0x0 is none"]),
    ("inject: {devices: [nic0, nic8], errors: [CmpltTO]}", "inject.devices", ["'nic8'", "allowed: nic0"]),
    ("inject: {devices: [], errors: [CmpltTO]}", "inject.devices", ["at least 1"]),
    ("storm: {device: nic0, count: 5, rate_per_s: 1}", "storm", ["exactly one of: errors, mix"]),
    ("storm: {device: nic0, mix: {Bogus: 1}, count: 5, rate_per_s: 1}", "storm.mix", ["Bogus"]),
    ("storm: {device: nic0, mix: {BadTLP: 0}, count: 5, rate_per_s: 1}", "storm.mix.BadTLP", ["equal to 1"]),
    ("storm: {device: nic0, errors: [BadTLP], count: 50, rate_per_s: 1}", "", ["lasts 50 s", "background: true"]),
    ("gone: {device: nic0, how: away}", "gone.how", ["dead", "link-down", "removed"]),
    ("gone: {device: '00:1c.0', how: link-down}", "gone", ["no link above it"]),
    ("hotplug: {device: nic0, does: eject}", "hotplug", ["no hotplug slots", "boot.hotplug"]),
    ("reset-fault: {device: nic0, how: fails, ready_ms: 5}", "reset-fault", ["ready_ms belongs to how: slow"]),
    ("reset-fault: {device: nic0, how: slow, vendor: 1}", "reset-fault", ["belong to how: other-device"]),
    ("reset-fault: {device: '00:1c.0', how: slow}", "reset-fault", ["root_port, which nothing resets"]),
    ("driver: {guest: net9, phase: resume, does: hang}", "driver.guest", ["'net1'"]),
    ("driver: {guest: net1, phase: resum, does: hang}", "driver.phase", ["slot_reset"]),
    ("driver: {guest: net1, phase: resume, does: sulk}", "driver.does", ["hang", "twice"]),
    ("driver: {guest: net1, phase: resume, does: vote}", "driver", ["vote: None is no answer", "RECOVERED"]),
    ("driver: {guest: net1, phase: resume, does: vote, vote: RECOVERD}", "driver", ["did you mean 'RECOVERED'"]),
    ("driver: {guest: net1, phase: resume, does: invalid, vote: 3}", "driver", ["not 1 to 6"]),
    ("driver: {guest: net1, phase: resume, does: hang, vote: NONE}", "driver", ["vote belongs to does: vote"]),
    ("driver: {guest: net1, phase: resume, does: hang, ms: 5}", "driver", ["ms belongs to does: late and twice"]),
    ("process: {target: dom1, does: kill}", "process.target", ["did you mean 'dom0'", "net1"]),
    ("process: {target: dom0, does: kill, for_ms: 5}", "process", ["for_ms belongs to does: stop"]),
    ("slow-start: {guest: net1, ms: 0}", "slow-start.ms", ["greater than or equal to 1"]),
    ("channel: {guest: net1, which: devbus, does: torn}", "channel", ["torn belongs to which: channel"]),
    ("channel: {guest: net1, does: lose}", "channel.does", ["drop"]),
    ("sysfs-reset: {device: nix}", "sysfs-reset.device", ["'nix'", "nic0"]),
    # points
    ("pause: {guest: net1}, at: {}", "at", ["exactly one of: ms, phase, record, lock", "has none"]),
    ("pause: {guest: net1}, at: {ms: 5, phase: resume}", "at", ["has ms, phase"]),
    ("pause: {guest: net1}, at: {ms: 5, nth: 2}", "at", ["do not go with ms"]),
    ("pause: {guest: net1}, at: {ms: -5}", "at.ms", ["greater than or equal to 0"]),
    ("pause: {guest: net1}, at: {ms: 5, device: nic0}", "at", ["device and when belong to phase"]),
    ("pause: {guest: net1}, at: {phase: rest}", "at.phase", ["error_detected"]),
    ("pause: {guest: net1}, at: {phase: resume, device: nic3}", "at.device", ["'nic0'"]),
    ("pause: {guest: net1}, at: {phase: resume, when: told}", "at.when", ["answered"]),
    ("pause: {guest: net1}, at: {phase: resume, nth: 0}", "at.nth", ["greater than or equal to 1"]),
    ("pause: {guest: net1}, at: {record: {label: aer.eror}}", "at.record.label", ["'aer.error'"]),
    ("pause: {guest: net1}, at: {record: {label: aer.irq, party: dom1}}", "at.record.party", ["no guest 'dom1'"]),
    ("pause: {guest: net1}, at: {lock: {name: devicelock}}", "at.lock.name", ["'device_lock'", "pcistub_sem"]),
    ("pause: {guest: net1}, at: {lock: {name: device_lock, when: held}}", "at.lock.when", ["waiting"]),
    ("wait: {connected: net1}, at: {phase: resume}", "", ["wait takes its turn"]),
    ("sleep: {ms: 5}, background: true", "", ["sleep takes its turn"]),
]  # fmt: skip


def write(folder: Path, *steps: str) -> Path:
    path = folder / "campaign.yaml"
    path.write_text(HEAD + "".join(f"  - {{{step}}}\n" for step in steps))
    return path


@pytest.mark.parametrize(("step", "where", "words"), MISTAKES, ids=[step for step, _, _ in MISTAKES])
def test_mistake_is_named(tmp_path: Path, step: str, where: str, words: list[str]) -> None:
    path = write(tmp_path, step)
    with pytest.raises(ScriptError) as caught:
        load_script(path)
    begin, place = f"{path}:4:", f" steps[0]{'.' if where else ''}{where}: "
    found = caught.value.problems
    assert any(text.startswith(begin) and place in text and all(word in text for word in words) for text in found), (
        found
    )


GOOD = [
    "inject: {devices: [nic0, '00:1c.0'], errors: [CmpltTO], correctable: 0x1, masked: true}",
    "storm: {device: nic0, mix: {BadTLP: 9, CmpltTO: 1}, count: 1000, rate_per_s: 500, seed: 7}",
    "storm: {device: nic0, errors: [BadTLP], count: 1000, rate_per_s: 5}, background: true",
    "gone: {device: nic0, how: link-down}, at: {phase: mmio_enabled, device: nic0, when: called}",
    "back: {device: nic0}",
    "reset-fault: {device: nic0, how: slow, ready_ms: 3000}",
    "reset-fault: {device: nic0, how: other-device, vendor: 0x8086, id: 0x1234}",
    "driver: {guest: net1, device: nic0, phase: slot_reset, does: vote, vote: DISCONNECT}",
    "driver: {guest: net1, phase: resume, does: twice, ms: 0.5, times: 3}",
    "process: {target: hypervisor, does: stop, for_ms: 50}, at: {ms: 12.5}",
    "slow-start: {guest: net1, ms: 2000}",
    "channel: {guest: net1, does: torn, direction: both, count: 10}",
    "channel: {guest: net1, which: devbus, does: delay, ms: 3}",
    "sysfs-reset: {device: nic0}, background: true, may-fail: true",
    "detach: {guest: net1, device: nic0}, at: {record: {label: 'pci*.*', subject: nic0, fields: {phase: resume}}}",
    "reboot: {guest: net1}, at: {lock: {name: 'device_lock of 0000:01:00.0', when: waiting}, after_ms: 1.5}",
    "shutdown: {guest: net1}, at: {record: {label: party.start, party: supervisor-net1}}",
]


@pytest.mark.parametrize("step", GOOD)
def test_what_may_be_written(tmp_path: Path, step: str) -> None:
    assert load_script(write(tmp_path, step)).steps


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path, "gone: {device: nix, how: dead}, at: {phase: resume, device: nox}", "slow-start: {guest: no, ms: 5}"
    )
    with pytest.raises(ScriptError) as caught:
        load_script(path)
    assert len(caught.value.problems) == 3
