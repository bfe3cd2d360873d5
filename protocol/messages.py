"""What may be said between the parties: every operation with the types of its arguments, once, as data.

A message is a tuple ``(op, serial, argument, ...)``; ``kernel_stub.rpc`` says how serials work. The tables
below are compiled into strict checks by ``protocol.codec``; nothing else decides what is well formed.
The shared-page channel and the device bus have their own forms (``protocol.sharedinfo``, ``DEVBUS`` below).
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

U8 = Annotated[int, Field(ge=0, le=0xFF)]
U16 = Annotated[int, Field(ge=0, le=0xFFFF)]
U32 = Annotated[int, Field(ge=0, le=0xFFFFFFFF)]
U64 = Annotated[int, Field(ge=0, le=0xFFFFFFFFFFFFFFFF)]
DomId = Annotated[int, Field(ge=0, le=0x7FFF)]
Text = Annotated[str, Field(max_length=4096)]
Blob = Annotated[bytes, Field(max_length=4096)]
Anything = Any  # results, and arguments of control commands: checked by who uses them

# domain (dom0 or guest), supervisor or control client -> hypervisor stub
TO_HYPERVISOR: dict[str, tuple[Any, ...]] = {
    "hello": (Text, Text),  # role (dom0, domu, supervisor, control), token -> dict of what the role needs
    "xs_read": (U32, Text),  # transaction (0: none), path -> bytes
    "xs_write": (U32, Text, Blob),
    "xs_mkdir": (U32, Text),
    "xs_rm": (U32, Text),
    "xs_directory": (U32, Text),  # -> list of names
    "xs_get_perms": (U32, Text),  # -> list like ["n0", "r7"]
    "xs_set_perms": (U32, Text, tuple[Text, ...]),
    "xs_start": (),  # -> transaction id
    "xs_end": (U32, bool),  # EAGAIN on conflict
    "xs_watch": (Text, Text),  # path, token
    "xs_unwatch": (Text, Text),
    "evtchn_alloc": (DomId,),  # remote domain -> port (EVTCHNOP_alloc_unbound)
    "evtchn_bind": (DomId, U32, Text),  # remote domain, its port, address that the binder listens on -> port
    "evtchn_close": (U32,),
    "grant": (DomId, bool, Blob),  # for whom, read-only, the page as it is now -> reference
    "grant_end": (U32,),
    "grant_map": (DomId, U32),  # granter, reference -> page image
    "grant_unmap": (DomId, U32),
    "shutdown": (U8,),  # SCHEDOP_shutdown: poweroff 0, reboot 1, crash 3
    "died": (DomId, int, int),  # supervisor: domain, pid, wait status (event)
    "ctl": (Text, Text, tuple[Anything, ...]),  # target party, verb, arguments -> result
}

# hypervisor stub -> dom0
TO_DOM0: dict[str, tuple[Any, ...]] = {
    "xs_event": (Text, Text),  # path, token
    "evtchn_closed": (U32,),  # the other end went away: sends are lost from now on
    "domain_key": (DomId, Text),  # event: public key with which its guest will connect
    "domain_revoked": (DomId,),  # event: from now on nothing that its guest sends has any effect
    "domain_withdrawn": (DomId,),  # the operator is about to destroy it: its devices count as detached (H11)
    "domain_paused": (DomId, bool),  # event: the operator paused or unpaused it
    "domain_stopped": (DomId, Text),  # event: its processors run no more (KILL-4.2, 4.4), and the procedure
    "hw_assign": (Text, DomId),  # function, domain -> address of the domain's device bus
    "hw_deassign": (Text,),  # to quarantine (DOMID_IO)
    "hw_block_dma": (Text,),  # KILL-4.3
    "hw_reset": (Text, tuple[Text, ...]),  # function, functions of the same domain -> [done, method, text] (KILL-4.5)
    "hw_restore": (Text,),  # configuration of seize time (KILL-4.6)
    "hw_check": (Text,),  # -> [clean, text] (H19)
    "pci_slots": (),  # -> [[function, driver], ...] in bus order
    "pci_seize": (Text,),  # bind to pciback -> [driver it had]
    "pci_release": (Text, Text),  # unbind from pciback, bind to the named driver ("" for none)
    "pci_permissive": (Text,),
    "ctl": (Text, tuple[Anything, ...]),  # verb, arguments -> result
    "stop": (),  # event: orderly end of the whole host, every guest is gone
}

# hypervisor stub -> guest
TO_DOMU: dict[str, tuple[Any, ...]] = {
    "xs_event": (Text, Text),
    "evtchn_open": (U32, Text),  # port, address: the other end is bound there
    "evtchn_closed": (U32,),
    "devbus_open": (Text,),  # address of the device bus
    "ctl": (Text, tuple[Anything, ...]),
}

# hypervisor stub -> supervisor
TO_SUPERVISOR: dict[str, tuple[Any, ...]] = {
    "start": (DomId, Text, Text),  # domain, token for its hello, name -> pid
    "kill": (DomId,),  # SIGKILL of the process group (event; the answer is "died")
    "pause": (DomId,),  # SIGSTOP
    "unpause": (DomId,),  # SIGCONT
    "slow_start": (U32,),  # the next process starts so many ms later
    "stop": (),  # event: orderly end of the whole host
}

TO_CONTROL: dict[str, tuple[Any, ...]] = {}

# guest <-> hardware; addresses are (function, BAR, offset), where a function is its address in the guest as one
# number (``Sbdf.number``: the devfn on a virtual bus); memory addresses are guest physical
DEVBUS: dict[str, tuple[Any, ...]] = {
    "mmio_read": (U32, U8, U32, U8),  # function, BAR, offset, size -> value (request, guest to hardware)
    "mmio_write": (U32, U8, U32, U8, U64),  # posted
    "dma_read": (U32, U64, U32),  # function, address, length -> bytes (request, hardware to guest)
    "dma_write": (U32, U64, Annotated[bytes, Field(max_length=65536)]),  # posted
    "msi": (U32, U16),  # function, vector (event)
}
