"""The ``xl`` command line: words, columns, messages, exit codes. Source: xen-pci.md 9.2, 9.3; xen-pci-errata.md 9.2."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from hypervisor_stub import xl_pci
from hypervisor_stub.console import ERROR_FAIL, LibxlError, LibxlLog
from hypervisor_stub.domain_nodes import DOM0_MEMORY_MB, DOM0_VCPUS
from hypervisor_stub.domains import Domain, state_letters
from hypervisor_stub.toolstack import Toolstack
from hypervisor_stub.xl_call import EXIT_FAILURE, Call, XlExitError
from protocol.ids import DOM0

HEADER = "Name                                        ID   Mem VCPUs\tState\tTime(s)"
DOM0_NAME = "Domain-0"

Handler = Callable[[Call], Awaitable[None]]


class Command(NamedTuple):
    """One word after ``xl``: allowed option letters (``:`` = takes a value), number of arguments, usage, handler."""

    options: str
    least: int
    usage: str
    run: Handler


def list_row(name: str, domid: int, memory: int, vcpus: int, state: str, seconds: float) -> str:
    """One row of ``xl list``: memory in MiB, CPU seconds."""
    return f"{name:<40s} {domid:5d} {memory:5d} {vcpus:5d}     {state}  {seconds:8.1f}"


async def _list(call: Call) -> None:
    rows = [_dom0_row(call)] + [_row(call, domain) for domain in call.toolstack.machine.domains]
    if call.args:
        domain = call.domain_or_dom0(call.args[0])
        rows = [_row(call, domain) if domain else _dom0_row(call)]
    call.print(HEADER)
    for row in rows:
        call.print(row)


def _dom0_row(call: Call) -> str:
    return list_row(DOM0_NAME, DOM0, DOM0_MEMORY_MB, DOM0_VCPUS, "r-----", call.cpu_seconds(None))


def _row(call: Call, domain: Domain) -> str:
    spec, state = domain.spec, state_letters(domain.life, domain.reason)
    return list_row(spec.name, domain.domid, spec.memory_mb, spec.vcpus, state, call.cpu_seconds(domain))


async def _domid(call: Call) -> None:
    domain = None if call.args[0] == DOM0_NAME else call.domain(call.args[0])
    call.print(str(domain.domid if domain else DOM0))


async def _create(call: Call) -> None:
    name = call.args[0]
    spec = call.toolstack.machine.host.guest(name)
    if spec is None:
        guests = ", ".join(guest.name for guest in call.toolstack.machine.host.guests)
        call.fail(f"{name}: no such guest in the host file; it has: {guests or 'none'}")
    else:
        call.print(f"Parsing config from {name}")
        await call.toolstack.create(spec, call.log)


async def _destroy(call: Call) -> None:
    domain = call.domain_or_dom0(call.args[0])
    if domain is None and "f" not in call.options:
        call.fail("Not destroying domain 0; use -f to force.", "This can't be undone.")
    if domain is None:
        # Domain 0 is this machine's way to the hardware: it is never ended, whoever asks (KILL-3).
        call.log.say("domain0", DOM0)
        call.fail(f"destroy failed (rc={ERROR_FAIL})")
    else:
        await call.toolstack.destroy(domain)


def _ask_guest(word: str, verb: str) -> Handler:
    async def run(call: Call) -> None:
        domain = call.domain(call.args[0])
        call.complain(f"{verb} domain {domain.domid}")
        call.toolstack.request_shutdown(domain, word)

    return run


async def _pause(call: Call) -> None:
    await call.toolstack.pause(call.domain(call.args[0]))


async def _unpause(call: Call) -> None:
    await call.toolstack.unpause(call.domain(call.args[0]))


async def _dmesg(call: Call) -> None:
    for line in call.toolstack.machine.console.lines(clear="c" in call.options):
        call.print(line)


COMMANDS: dict[str, Command] = {
    "list": Command("", 0, "[Domain]", _list),
    "domid": Command("", 1, "<DomainName>", _domid),
    "create": Command("", 1, "<GuestName>", _create),
    "destroy": Command("f", 1, "[options] <Domain>", _destroy),
    "shutdown": Command("", 1, "<Domain>", _ask_guest("poweroff", "Shutting down")),
    "reboot": Command("", 1, "<Domain>", _ask_guest("reboot", "Rebooting")),
    "pause": Command("", 1, "<Domain>", _pause),
    "unpause": Command("", 1, "<Domain>", _unpause),
    "dmesg": Command("c", 0, "[-c]", _dmesg),
    "pci-list": Command("", 1, "<Domain>", xl_pci.pci_list),
    "pci-attach": Command("", 2, "<Domain> <PCI_SPEC_STRING>", xl_pci.pci_attach),
    "pci-detach": Command("f", 2, "<Domain> <PCI_SPEC_STRING>", xl_pci.pci_detach),
    "pci-assignable-list": Command("n", 0, "[-n]", xl_pci.assignable_list),
    "pci-assignable-add": Command("n:", 1, "[-n NAME] <BDF>", xl_pci.assignable_add),
    "pci-assignable-remove": Command("r", 1, "[-r] <BDF>|NAME", xl_pci.assignable_remove),
}


class Xl:
    """Runs command lines. ``cpu_seconds(domain)`` tells the CPU time of a guest (None: dom0)."""

    def __init__(self, toolstack: Toolstack, cpu_seconds: Callable[[Domain | None], float]) -> None:
        self._toolstack = toolstack
        self._cpu_seconds = cpu_seconds

    async def xl(self, argv: list[str]) -> tuple[int, str, str]:
        """Run ``xl argv...``: (exit code, standard output, standard error)."""
        call = Call(self._toolstack, LibxlLog(self._toolstack.machine.console), self._cpu_seconds)
        code = await self._run(call, argv)
        err = call.log.shown + call.err
        return code, "".join(f"{line}\n" for line in call.out), "".join(f"{line}\n" for line in err)

    async def _run(self, call: Call, argv: list[str]) -> int:
        command = COMMANDS.get(argv[0]) if argv else None
        if command is None:
            call.complain("command not implemented")
            return EXIT_FAILURE
        try:
            call.parse(argv, command.options, command.least, command.usage)
            await command.run(call)
        except XlExitError as end:
            return end.code
        except LibxlError:
            return EXIT_FAILURE
        return 0
