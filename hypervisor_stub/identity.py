"""Who may say hello as what: the role that a peer claims against what the transport knows of it.

Over tcp a peer is the party whose key it has proved to have, over ipc a process (``transport_gate``); where
nothing is known ("": the simulation, containers that share only a directory) its token alone decides.
"""

from __future__ import annotations

from hypervisor_stub.domains import Domain, Domains
from kernel_stub.rpc import RpcError
from protocol.ids import guest_identity

PROCESS = "process "  # identity of a local peer (protocol.transport_gate)
CONTROL = "control-"  # how the names of control clients begin


def named(identity: str) -> bool:
    """The peer has proved to be a party with a name."""
    return bool(identity) and not identity.startswith(PROCESS)


def check_party(identity: str, role: str, token: str, domains: Domains) -> None:
    """dom0, a supervisor or a control client says hello. Raises RpcError."""
    if named(identity):
        expected = {"dom0": "dom0", "supervisor": f"supervisor-{token}"}.get(role, CONTROL)
        if identity == expected or (role == "control" and identity.startswith(CONTROL)):
            return
        raise RpcError(f"{identity} is not {role}")
    owner = _owner(identity, domains)
    if owner is not None:
        raise RpcError(f"a process of {owner.name} is not {role}")


def check_guest(identity: str, domain: Domain, domains: Domains) -> None:
    """The guest of ``domain`` says hello, with the right token. Raises RpcError."""
    if named(identity):
        if identity != guest_identity(domain.domid):
            raise RpcError(f"{identity} is not {domain.name}")
        return
    owner = _owner(identity, domains)
    if owner is not None and owner is not domain:
        raise RpcError(f"a process of {owner.name} is not {domain.name}")


def _owner(identity: str, domains: Domains) -> Domain | None:
    """The living guest whose process group this is."""
    group = int(identity.rsplit(maxsplit=1)[-1]) if identity.startswith(PROCESS) else 0
    return next((domain for domain in domains if group and domain.pid == group), None)
