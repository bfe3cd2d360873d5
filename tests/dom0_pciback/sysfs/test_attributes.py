"""dom0_pciback.sysfs: the text of every attribute (linux-aer.md 2.5, 6.4, 7.2, 7.3; section 15)."""

from __future__ import annotations

from errno import EACCES, ENOENT

import pytest

from dom0_pciback.pci.enable import pci_enable_device_mem
from dom0_pciback.sysfs.attributes import ATTRIBUTES
from dom0_pciback.sysfs.kstrto import StoreError
from dom0_pciback.sysfs.sysfs import BUS, Sysfs
from dom0_pciback.sysfs.tree import File, Link
from protocol.ers import Severity
from protocol.layout_header import HEADER
from protocol.topology import BootSpec
from tests.dom0_pciback.aer.rig import Rig, small_host

PORT, CARD = "0000:00:01.0", "0000:01:00.0"
TWO_0, TWO_1 = "0000:02:00.0", "0000:02:00.1"
UPSTREAM, DOWN_0, DOWN_1 = "0000:03:00.0", "0000:04:00.0", "0000:04:01.0"
ZERO = "0x0000000000000000"

EXAMPLE_7_2 = """\
RxErr 4
dev_cor_errs_bit[1] 2
BadTLP 3
BadDLLP 0
Rollover 0
Timeout 0
NonFatalErr 0
CorrIntErr 0
HeaderOF 0
TOTAL_ERR_COR 7
"""

TEXTS = {  # of 01:00.0: fixed ones first, then those that follow its registers
    "vendor": "0x1af4\n",
    "device": "0x1041\n",
    "subsystem_vendor": "0x1af4\n",
    "subsystem_device": "0x0000\n",
    "class": "0x00ff00\n",
    "revision": "0x00\n",
    "irq": "0\n",
    "enable": "0\n",
    "modalias": "pci:v00001AF4d00001041sv00001AF4sd00000000bc00scFFi00\n",
    "uevent": "PCI_CLASS=FF00\nPCI_ID=1AF4:1041\nPCI_SUBSYS_ID=1AF4:0000\nPCI_SLOT_NAME=0000:01:00.0\n"
    "MODALIAS=pci:v00001AF4d00001041sv00001AF4sd00000000bc00scFFi00\n",
    "current_link_speed": "2.5 GT/s PCIe\n",
    "current_link_width": "1\n",
    "max_link_speed": "2.5 GT/s PCIe\n",
    "max_link_width": "1\n",
    "reset_method": "flr bus\n",
    "aer/correctable_ratelimit_burst": "10\n",
    "aer/correctable_ratelimit_interval_ms": "1250\n",
    "aer/nonfatal_ratelimit_burst": "10\n",
    "aer/nonfatal_ratelimit_interval_ms": "1250\n",
}


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.fixture
def sysfs(rig: Rig) -> Sysfs:
    return Sysfs(rig.core, rig.aer)


def read(sysfs: Sysfs, bdf: str, name: str) -> str:
    return sysfs.read(f"bus/pci/devices/{bdf}/{name}").decode("latin-1")


def errno_of(sysfs: Sysfs, path: str) -> int:
    with pytest.raises(StoreError) as refused:
        sysfs.read(path)
    return refused.value.errno


@pytest.mark.parametrize("name", TEXTS)
def test_text_of_an_endpoint(sysfs: Sysfs, name: str) -> None:
    assert read(sysfs, CARD, name) == TEXTS[name]


def test_resources_of_an_endpoint_are_13_lines(sysfs: Sysfs) -> None:
    lines = read(sysfs, CARD, "resource").splitlines()
    assert lines[0] == "0x00000000c0000000 0x00000000c000ffff 0x0000000000040200"
    assert lines[1:] == [f"{ZERO} {ZERO} {ZERO}"] * 12


def test_resources_of_a_port_are_17_lines_with_its_window(sysfs: Sysfs) -> None:
    lines = read(sysfs, PORT, "resource").splitlines()
    assert len(lines) == 17
    assert lines[14] == "0x00000000c0000000 0x00000000c00fffff 0x0000000000000200"
    assert {line for number, line in enumerate(lines) if number != 14} == {f"{ZERO} {ZERO} {ZERO}"}


def test_sizing_leaves_the_registers_as_they_were(rig: Rig) -> None:
    before = {
        dev.name: [rig.core.read(dev, offset, 4) for offset in range(0, 64, 4)] for dev in rig.core.devices.values()
    }
    Sysfs(rig.core, rig.aer)
    assert {
        d.name: [rig.core.read(d, offset, 4) for offset in range(0, 64, 4)] for d in rig.core.devices.values()
    } == before


def test_the_port_driver_is_in_uevent_and_link(sysfs: Sysfs) -> None:
    assert read(sysfs, PORT, "uevent").startswith("DRIVER=pcieport\nPCI_CLASS=60400\n")
    assert sysfs.section(PORT)[f"devices/pci0000:00/{PORT}/driver"] == Link("../../../bus/pci/drivers/pcieport")
    assert f"devices/pci0000:00/{PORT}/{CARD}/driver" not in sysfs.section(CARD)


def test_irq_of_a_root_port_is_that_of_its_services(sysfs: Sysfs) -> None:
    assert read(sysfs, PORT, "irq") == "24\n"


def test_enable_counts_users(rig: Rig, sysfs: Sysfs) -> None:
    assert read(sysfs, PORT, "enable") == "1\n", "the port driver"
    for _ in range(2):
        pci_enable_device_mem(rig.core, rig.dev(CARD))
    assert read(sysfs, CARD, "enable") == "2\n"


# -- configuration space -------------------------------------------------------------------------
def test_config_is_what_dom0_reads(rig: Rig, sysfs: Sysfs) -> None:
    data = sysfs.read(f"bus/pci/devices/{CARD}/config")
    assert data == b"".join(rig.core.read(rig.dev(CARD), at, 4).to_bytes(4, "little") for at in range(0, 4096, 4))
    rig.core.update(rig.dev(CARD), HEADER.COMMAND, 2, 0, 0x400)
    assert sysfs.read(f"bus/pci/devices/{CARD}/config")[5] == data[5] | 0x04


def test_config_of_a_function_that_does_not_answer_is_all_ones(rig: Rig, sysfs: Sysfs) -> None:
    rig.core.write(rig.dev(PORT), 0x18, 4, 0)  # no bus numbers: nobody below is reached
    assert sysfs.read(f"bus/pci/devices/{CARD}/config") == b"\xff" * 4096
    assert read(sysfs, CARD, "vendor") == "0x1af4\n", "the kernel knows it from enumeration"


# -- counters ------------------------------------------------------------------------------------
def test_7_2_the_example_of_the_specification(rig: Rig, sysfs: Sysfs) -> None:
    info = rig.dev(CARD).aer_info
    assert info is not None
    for unmasked, count in ((0x1, 2), (0x3, 1), (0x43, 1), (0x40, 2)):
        for _ in range(count):
            info.stats.count_device(Severity.CORRECTABLE, unmasked)
    info.stats.totals[Severity.CORRECTABLE] = 7
    assert read(sysfs, CARD, "aer_dev_correctable") == EXAMPLE_7_2


def test_v2_an_injected_word_with_an_unnamed_bit(rig: Rig, sysfs: Sysfs) -> None:
    info = rig.dev(CARD).aer_info
    assert info is not None
    info.stats.count_device(Severity.CORRECTABLE, 0x43)
    lines = read(sysfs, CARD, "aer_dev_correctable").splitlines()
    assert lines[:3] == ["RxErr 1", "dev_cor_errs_bit[1] 1", "BadTLP 1"]
    assert lines[-1] == "TOTAL_ERR_COR 1"


@pytest.mark.parametrize(("name", "total"), [("nonfatal", "TOTAL_ERR_NONFATAL 0"), ("fatal", "TOTAL_ERR_FATAL 0")])
def test_7_2_uncorrectable_files_list_23_names_and_the_total(sysfs: Sysfs, name: str, total: str) -> None:
    lines = read(sysfs, CARD, f"aer_dev_{name}").splitlines()
    assert len(lines) == 24
    assert (lines[0], lines[22], lines[23]) == ("Undefined 0", "TLPXlatBlocked 0", total)


def test_7_3_root_files_are_in_root_ports_only(rig: Rig, sysfs: Sysfs) -> None:
    rig.dev(PORT).aer_info.stats.root[Severity.FATAL] = 3  # type: ignore[union-attr]
    assert read(sysfs, PORT, "aer_rootport_total_err_fatal") == "3\n"
    assert read(sysfs, PORT, "aer_rootport_total_err_cor") == "0\n"
    for bdf in (CARD, UPSTREAM, DOWN_0):
        assert errno_of(sysfs, f"bus/pci/devices/{bdf}/aer_rootport_total_err_cor") == ENOENT


def test_an_error_of_the_hardware_is_counted(rig: Rig, sysfs: Sysfs) -> None:
    rig.hierarchy.inject(rig.dev(CARD).sbdf, 1, 0)
    rig.settle()
    assert read(sysfs, CARD, "aer_dev_correctable").startswith("RxErr 1\n")
    assert read(sysfs, PORT, "aer_rootport_total_err_cor") == "1\n"


# -- the tree ------------------------------------------------------------------------------------
def test_reset_methods_are_those_of_the_moment_of_enumeration(sysfs: Sysfs) -> None:
    """The first function of a bus is offered a bus reset; a bridge too, before its own bus is scanned."""
    assert read(sysfs, TWO_0, "reset_method") == "flr bus\n"
    assert read(sysfs, TWO_1, "reset_method") == "flr\n"
    assert read(sysfs, UPSTREAM, "reset_method") == "bus\n"
    assert read(sysfs, DOWN_0, "reset_method") == "bus\n"
    for bdf in (PORT, DOWN_1):
        assert errno_of(sysfs, f"bus/pci/devices/{bdf}/reset") == ENOENT


def test_directories_are_nested_as_the_bridges_are(sysfs: Sysfs) -> None:
    path = "devices/pci0000:00/0000:00:03.0/0000:03:00.0/0000:04:00.0/0000:05:00.0"
    assert f"{path}/vendor" in sysfs.section("0000:05:00.0")
    assert sysfs.section(BUS)["bus/pci/devices/0000:05:00.0"] == Link(f"../../../{path}")
    assert sysfs.section("0000:05:00.0")[f"{path}/subsystem"] == Link("../../../../../../bus/pci")


def test_every_link_leads_to_something(sysfs: Sysfs) -> None:
    nodes = sysfs.nodes()
    folders = {path[:end] for path in nodes for end in range(len(path)) if path[end] == "/"}
    for path, node in nodes.items():
        if isinstance(node, Link):
            names = path.split("/")[:-1]
            for name in node.target.split("/"):
                names = names[:-1] if name == ".." else [*names, name]
            assert "/".join(names) in folders, f"{path} -> {node.target}"


def test_modes_are_the_kernels(sysfs: Sysfs) -> None:
    modes = {
        path.rpartition(f"{CARD}/")[2]: node.mode
        for path, node in sysfs.section(CARD).items()
        if isinstance(node, File)
    }
    assert modes["vendor"] == modes["aer_dev_fatal"] == modes["resource"] == 0o444
    assert modes["config"] == modes["aer/nonfatal_ratelimit_burst"] == modes["reset_method"] == 0o644
    assert modes["reset"] == modes["rescan"] == 0o200
    assert modes["remove"] == 0o220


def test_names_in_the_table_are_unique() -> None:
    assert len({row.name for row in ATTRIBUTES}) == len(ATTRIBUTES)


def test_paths_may_begin_at_sys_and_go_through_links(sysfs: Sysfs) -> None:
    for path in (
        f"/sys/bus/pci/devices/{CARD}/vendor",
        f"bus/pci/drivers/pcieport/{PORT}/{CARD}/vendor",
        f"bus/pci/devices/{CARD}/../vendor",  # of the port: a link's ".." is where it leads
        f"devices/pci0000:00/{PORT}/./{CARD}//vendor",
        f"bus/pci/devices/{CARD}/subsystem/devices/{CARD}/vendor",
    ):
        assert sysfs.read(path) == b"0x1af4\n", path


@pytest.mark.parametrize(
    ("path", "errno"),
    [
        ("", ENOENT), ("bus/pci", ENOENT), ("bus/pci/devices/0000:09:00.0/vendor", ENOENT),
        (f"bus/pci/devices/{CARD}/bogus", ENOENT), (f"bus/pci/devices/{CARD}/reset", EACCES),
        ("../../etc/passwd", ENOENT), ("bus/pci/rescan", EACCES),
    ],
)  # fmt: skip
def test_what_cannot_be_read(sysfs: Sysfs, path: str, errno: int) -> None:
    assert errno_of(sysfs, path) == errno


@pytest.mark.parametrize(
    ("boot", "there"),
    [(BootSpec(), True), (BootSpec(aer=False), False), (BootSpec(pcie_ports="dpc-native"), True),
     (BootSpec(osc_aer=False), False), (BootSpec(osc_aer=False, pcie_ports="dpc-native"), True)],
)  # fmt: skip
def test_2_5_a_port_with_containment_has_its_service(boot: BootSpec, there: bool) -> None:
    functions = small_host()
    functions[0].dpc = True
    rig = Rig(functions, boot=boot)
    nodes = Sysfs(rig.core, rig.aer).nodes()
    assert (f"bus/pci_express/devices/{PORT}:pcie008" in nodes) == there
    assert f"bus/pci_express/devices/{UPSTREAM}:pcie108" not in nodes
