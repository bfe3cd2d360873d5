"""A mounted directory in one thread: functions that come and go, writers, and a directory that is taken away."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dom0_pciback import sysfs_mount
from dom0_pciback.pci.device import PciDev
from dom0_pciback.sysfs.sysfs import Sysfs
from dom0_pciback.sysfs_files import TreeError
from dom0_pciback.sysfs_mount import PERIOD_NS, MountedTree, Mounts
from kernel_stub.kernel import MS
from protocol.ids import Sbdf
from protocol.transport_loop import Loop
from tests.dom0_pciback.aer.rig import Rig

UPSTREAM, BELOW = Sbdf.parse("03:00.0"), Sbdf.parse("05:00.0")
CARD = "0000:01:00.0"


class Bench:
    """A directory that is kept, and a clock that only the test moves."""

    def __init__(self, root: Path) -> None:
        self.rig = Rig()
        self.loop = Loop(self.rig.kernel)
        self.sysfs = Sysfs(self.rig.core, self.rig.aer)
        self.mounts = Mounts(self.loop, self.rig.kernel, lambda: len(self.rig.journal.records))
        self.root = root
        self.mount()

    def mount(self) -> int:
        task = self.rig.kernel.spawn(self.mounts.mount(self.sysfs, str(self.root)), "mount")
        self.pass_time(50)
        assert isinstance(task.result, int)
        return task.result

    def pass_time(self, ms: int) -> None:
        self.rig.settle(self.rig.clock.time + ms * MS)

    def written(self) -> None:
        """The loop looks at what inotify tells; then the task of the writer runs."""
        for fd, _ in self.loop._epoll.poll(1):
            self.loop._readers[fd]()
        self.pass_time(250)

    def device(self, bdf: str) -> Path:
        return self.root / "bus" / "pci" / "devices" / bdf


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "sys")
    yield made
    made.loop.close()


def test_functions_that_go_take_their_files_along(bench: Bench) -> None:
    core = bench.rig.core
    folder = bench.device(str(UPSTREAM)).resolve()
    gone = {sbdf: core.devices.pop(sbdf) for sbdf in list(core.devices) if sbdf == UPSTREAM or sbdf.bus > 3}
    bench.rig.kernel.trace("pci.state", str(UPSTREAM), "removed")
    bench.pass_time(250)
    assert not folder.exists()
    assert folder.parent.exists()
    assert not bench.device(str(BELOW)).is_symlink()
    core.devices.update(gone)
    bench.rig.kernel.trace("pci.state", str(UPSTREAM), "found")
    bench.pass_time(250)
    assert (bench.device(str(BELOW)) / "vendor").read_text() == "0x1af4\n"


def test_a_function_that_is_found_again_is_looked_at_anew(bench: Bench) -> None:
    core, sbdf = bench.rig.core, Sbdf.parse(CARD)
    old = core.devices[sbdf]
    fresh = core.devices[sbdf] = PciDev(bench.rig.kernel, bench.rig.hierarchy.functions[sbdf], old.bridge)
    bench.rig.kernel.trace("pci.state", CARD, "found")
    bench.pass_time(250)
    assert fresh.aer_info is None
    assert not (bench.device(CARD) / "aer").exists(), "nobody has prepared its counters"
    assert not (bench.device(CARD) / "aer_dev_fatal").exists()


def test_without_a_record_it_is_looked_for_changes_once_in_a_second(bench: Bench) -> None:
    bench.pass_time(250)
    bench.rig.core.write(bench.rig.dev(CARD), 0x3C, 1, 0x0B)
    bench.pass_time(2 * PERIOD_NS // MS)
    bench.pass_time(1000)
    assert (bench.device(CARD) / "irq").read_text() == "11\n"


def test_a_write_to_a_file_is_a_write_to_the_attribute(bench: Bench) -> None:
    file = bench.device(CARD) / "aer" / "nonfatal_ratelimit_burst"
    for value, shown in (("4", "4\n"), ("x", "4\n"), ("5\n", "5\n")):
        file.write_text(value)
        bench.written()
        assert file.read_text() == shown


def test_a_write_to_configuration_space_changes_these_bytes_only(bench: Bench) -> None:
    with (bench.device(CARD) / "config").open("r+b") as file:
        file.seek(0x3C)
        file.write(b"\x0b")
    bench.written()
    assert [fields[1:] for fields in bench.rig.traced("sysfs.store")] == [("\x0b", 0)]
    assert bench.rig.core.read(bench.rig.dev(CARD), 0x3C, 1) == 0x0B


def test_a_file_that_somebody_adds_is_none_of_ours(bench: Bench) -> None:
    (bench.device(CARD) / "notes").write_text("mine")
    bench.written()
    assert not bench.rig.traced("sysfs.store")


def test_a_directory_that_is_taken_away_is_given_up_and_may_come_back(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    count = bench.mount()
    shutil.rmtree(bench.root)
    bench.pass_time(2000)
    assert not bench.root.exists()
    assert f"{bench.root} is no longer kept current" in capsys.readouterr().err
    assert bench.mount() == count
    shutil.rmtree(bench.root)
    assert bench.mount() == count, "also before anybody has noticed"
    assert (bench.device(CARD) / "vendor").read_text() == "0x1af4\n"


def test_what_cannot_be_watched_is_refused(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(root: Path, told: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(sysfs_mount, "Watch", exhausted)
    for _ in range(2):
        with pytest.raises(TreeError, match="cannot be watched: too many open files"):
            MountedTree(bench.loop, bench.rig.kernel, bench.sysfs, tmp_path / "other")
