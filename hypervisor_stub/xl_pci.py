"""The ``pci-*`` words of ``xl``. Source: xen-pci.md 9.1, 9.2; xen-pci-errata.md 9.2 row 16 (slot in ``pci-list``)."""

from __future__ import annotations

from hypervisor_stub import pci_nodes
from hypervisor_stub.console import LibxlError
from hypervisor_stub.pci_nodes import Entry
from hypervisor_stub.xl_call import EXIT_FAILURE, EXIT_USAGE, Call, XlExitError
from hypervisor_stub.xl_spec import PciSpec, SpecError, parse_bdf, parse_spec
from protocol.ids import Sbdf

NAME_MAX = 64


def _vdev(entry: Entry, hardened: bool) -> str:
    """``%02x.%01x`` of the guest's slot: what was asked for, else (hardened) what pciback published, else 00.0."""
    if entry.vdevfn:
        return f"{entry.vdevfn >> 3 & 0x1F:02x}.{entry.vdevfn & 7:01x}"
    if hardened and entry.vdev:
        slot, _, function = entry.vdev.rpartition(":")[2].partition(".")
        return f"{int(slot, 16):02x}.{int(function, 16):01x}"
    return "00.0"


async def pci_list(call: Call) -> None:
    """``xl pci-list <Domain>``: nothing at all if the domain has no device."""
    machine = call.toolstack.machine
    found = pci_nodes.entries(machine.xs, call.domain(call.args[0]).domid)
    if found:
        call.print("Vdev Device")
    for entry in found:
        call.print(f"{_vdev(entry, machine.hardened)} {Sbdf.parse(entry.bdf)}")


def _spec(call: Call, command: str) -> PciSpec:
    try:
        return parse_spec(call.args[1])
    except SpecError as error:
        if str(error):
            call.complain(str(error))
        call.fail(f'{command}: malformed PCI_SPEC_STRING "{call.args[1]}"', code=EXIT_USAGE)


async def pci_attach(call: Call) -> None:
    """``xl pci-attach <Domain> <SPEC>``."""
    domain, spec = call.domain(call.args[0]), _spec(call, "pci-attach")
    for bdf in await _resolve(call, spec):
        await call.toolstack.pci.attach(domain, bdf, spec, call.log)


async def pci_detach(call: Call) -> None:
    """``xl pci-detach [-f] <Domain> <SPEC>``."""
    domain, spec = call.domain(call.args[0]), _spec(call, "pci-detach")
    found = await _resolve(call, spec)
    if spec.function_mask:  # all functions of the slot that this domain has
        found = [bdf for bdf in found if bdf in domain.functions] or found[:1]
    for bdf in found:
        await call.toolstack.pci.detach(domain, bdf, call.log, force="f" in call.options)


async def _resolve(call: Call, spec: PciSpec) -> list[str]:
    found = await call.toolstack.pci.resolve(spec)
    if not found:
        call.fail(f"no PCI device is called {spec.name or spec.bdf}")
    return found


async def assignable_list(call: Call) -> None:
    """``xl pci-assignable-list [-n]``: without ``-n`` each line ends in a blank, as the real one does."""
    listing = await call.toolstack.assignable.listing()
    if not listing and not await call.toolstack.assignable.slots():
        call.log.say("no_pciback")
    for bdf, name in listing:
        call.print(f"{Sbdf.parse(bdf)} {name if 'n' in call.options else ''}")


async def assignable_add(call: Call) -> None:
    """``xl pci-assignable-add [-n NAME] <BDF>``."""
    text, name = call.args[0], call.options.get("n", "")
    if len(name) > NAME_MAX:
        call.fail("Name too long", code=EXIT_USAGE)
    if any(not "!" <= c <= "~" for c in name):
        call.fail("Names may only include printable characters", code=EXIT_USAGE)
    try:
        bdf, mask = parse_bdf(text)
    except SpecError:
        call.fail(f'pci-assignable-add: malformed BDF "{text}"', code=EXIT_USAGE)
    await _each(call, [str(bdf)] if not mask else await call.toolstack.pci.resolve(PciSpec(bdf, mask)), name)


async def _each(call: Call, found: list[str], name: str) -> None:
    failed = False
    for bdf in found:
        try:
            await call.toolstack.assignable.add(bdf, call.log, name)
        except LibxlError:
            failed = True
    if failed or not found:
        raise XlExitError(EXIT_FAILURE)


async def assignable_remove(call: Call) -> None:
    """``xl pci-assignable-remove [-r] <BDF>|NAME``: the name is tried first."""
    text = call.args[0]
    bdf = call.toolstack.assignable.by_name(text)
    if bdf is None:
        try:
            bdf = str(parse_bdf(text)[0])
        except SpecError:
            call.fail(f"pci-assignable-remove: malformed BDF '{text}'", code=EXIT_USAGE)
    await call.toolstack.assignable.remove(bdf, call.log, rebind="r" in call.options)
