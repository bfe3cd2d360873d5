"""What is fuzzed: every decoder, the page stream down to configuration space, hypercalls, registers, nodes.

Each target takes bytes as they come from a guest and says in a word what became of them. Anything that it raises
is a finding: in dom0 and in the stub an exception ends the whole host.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgpack

from hypervisor_stub.hypervisor import ROLE_OPS
from kernel_stub.rpc import RpcError
from protocol import messages
from protocol.codec import Decoder, ProtocolError, decode_channel, encode
from protocol.journal_file import read_journal
from protocol.ports import Message
from protocol.sharedinfo import AER_ERR, CLEAR, OP, PCIB_ACTIVE, PCIF_ACTIVE, SET, WRITE, PciOp, SharedPage
from tests.dom0_pciback.pciback.host import CARD, SPARE, Host, make_host
from tests.dom0_pciback.pciback.pair import Pair
from tests.fuzz.engine import Target
from tests.hypervisor_stub.fakes import World
from tests.protocol.test_codec import TABLES, good
from xenaer.journal import entry, is_record, text_line

RENEWED = 2_000  # inputs until a target with a state begins anew
MS = 1_000_000


def refusal(error: Exception) -> str:
    """The kind of a refusal: its text without what it quotes."""
    said = re.split("['\"]", str(error))[0][:60]
    return "".join(letter for letter in said if letter.isascii() and (letter.isalpha() or letter == " "))


def decoder(decode: Callable[[bytes], Message]) -> Target:
    """Bytes are a message or a ProtocolError, nothing else."""

    def target(raw: bytes) -> str:
        try:
            op = decode(raw)[0]
            return f"message {op if isinstance(op, str) else 'of the channel'}"
        except ProtocolError as error:
            return refusal(error)

    return target


class PageStream:
    """Page operations against the real backend: channel, events, configuration space, a question now and then."""

    def __init__(self) -> None:
        self.count = RENEWED

    def __call__(self, raw: bytes) -> str:
        """One message of the channel; its numbers are made right, so that it is not refused for them."""
        try:
            _, _, bell, ops = decode_channel(raw)
        except ProtocolError as error:
            return refusal(error)
        self.count += 1
        if self.count > RENEWED or self.pair.channel.closed:
            self._renew()
        channel, pair = self.pair.channel, self.pair
        if self.count % 50 == 0:
            pair.asking()
        sent = channel._sent
        pair.link.on_message((channel._received + 1, sent, bell, ops))
        pair.world.settle(0.1)
        pair.world.journal.records.clear()
        if channel.closed:
            return "closed"
        assert len(channel.page.pending) < 100
        return f"flags {channel.page.data[0] & 7} answers {min(channel._sent - sent, 3)}"

    def _renew(self) -> None:
        self.pair, self.count = Pair(), 0
        self.pair.front.link.on_message = lambda message: None
        self.pair.front.link.on_close = lambda reason: None


class Hypercalls:
    """Requests of a guest to the real stub."""

    def __init__(self) -> None:
        self.count = RENEWED
        self.decode = Decoder(messages.TO_HYPERVISOR).decode

    def __call__(self, raw: bytes) -> str:
        """One message of a guest that has said hello."""
        try:
            message = self.decode(raw)
        except ProtocolError as error:
            return refusal(error)
        self.count += 1
        if self.count > RENEWED or not self.theirs.open:
            self._renew()
        self.answers.clear()
        self.theirs.on_message(message)
        self.world.settle()
        self.world.journal.records.clear()
        kinds = [
            each[0] + " " + refusal(Exception(each[2]))[:25] if each[0] == "error" else each[0] for each in self.answers
        ]
        return " ".join([message[0], *kinds[:2]])

    def _renew(self) -> None:
        self.world, self.count = World().booted(), 0
        link = self.world.guest().rpc.link
        self.answers: list[Message] = []
        link.on_message = self.answers.append
        self.theirs: Any = link.peer  # type: ignore[attr-defined]


class Registers:
    """The device bus of a guest against the device models."""

    def __init__(self) -> None:
        self.count = RENEWED
        self.decode = Decoder(messages.DEVBUS).decode

    def __call__(self, raw: bytes) -> str:
        """One message of a guest's device bus."""
        try:
            message = self.decode(raw)
        except ProtocolError as error:
            return refusal(error)
        self.count += 1
        if self.count > RENEWED:
            self._renew()
        self.theirs.on_message(message)
        self.host.settle(0.1)
        self.host.world.journal.records.clear()
        return str(message[0])

    def _renew(self) -> None:
        self.host, self.count = Host(make_host(CARD, SPARE)), 0
        self.host.guest.connect()
        self.host.psdev().access.enable_device()
        self.host.psdev().access.set_master(True)
        self.theirs = self.host.guest.open_devbus().link.peer


class Nodes:
    """What a guest writes into its frontend's directory, against the real pciback."""

    host: Host
    NAMES = ("state", "pci-op-ref", "event-channel", "magic")

    def __init__(self) -> None:
        self.count = RENEWED

    def __call__(self, raw: bytes) -> str:
        """(number of a node, value); anything else is a value of the state."""
        name, value = self._read(raw)
        self.count += 1
        if self.count > 200 or self.host.guest.domid not in self.host.dom0.pciback.guests:
            self.host, self.count = Host(make_host(CARD)), 0
            self.host.guest.offer()
        try:
            self.host.guest.write(name, value[:2048])
        except RpcError as error:
            return f"refused {error}"
        self.host.settle(60)
        self.host.world.journal.records.clear()
        return f"{name} {self.host.be('state')}"

    def _read(self, raw: bytes) -> tuple[str, bytes]:
        try:
            number, value = msgpack.unpackb(raw, use_list=False)
            return self.NAMES[number % len(self.NAMES)], value if isinstance(value, bytes) else str(value).encode()
        except (ValueError, TypeError, msgpack.exceptions.UnpackException):
            return "state", raw


class Journal:
    """The journal that a guest writes, as the operator's commands read it."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="xf-")) / "guest@1.mpk"

    def __call__(self, raw: bytes) -> str:
        """The file's contents; a length is put before what has none."""
        self.path.write_bytes(raw + len(raw).to_bytes(4, "little") + raw)
        records, _ = read_journal(self.path)
        return f"records {len([text_line(entry('guest', record)) for record in records if is_record(record)]) > 0}"


class Row(NamedTuple):
    """A target: how it is made, its first inputs, how many inputs of a hundred it gets."""

    make: Callable[[], Target]
    seeds: list[bytes]
    share: int


def vocabulary(table: dict[str, tuple[Any, ...]]) -> list[bytes]:
    """A good message of every operation, with small and with large values."""
    found = [
        encode((op, serial, *(good(shape)[-serial] for shape in shapes)))
        for op, shapes in {**table, "ok": (Any,), "error": (str,)}.items()
        for serial in (0, 1)
    ]
    return [raw for raw in found if len(raw) < 5000]


def page_stream() -> list[bytes]:
    """Requests for configuration space, answers, and the same in other orders."""

    def request(cmd: int, devfn: int, offset: int, size: int, value: int) -> tuple[Any, ...]:
        page = SharedPage()
        page.write_op((cmd, 0, 0, 0, devfn, offset, size, value, 0))
        return (WRITE, OP, page.pending[0][2])

    active, answered = (SET, PCIF_ACTIVE, b""), (CLEAR, PCIB_ACTIVE, b"")
    streams = [
        [request(cmd, devfn, offset, 4, 0xFFFFFFFF), active]
        for cmd in (*PciOp, 10, 0x80000000)
        for devfn, offset in ((0, 0), (0, 4), (0, 0x10), (8, 0x50), (0x100, 0x3C))
    ]
    streams += [[(WRITE, AER_ERR, value.to_bytes(4, "little")), answered] for value in (0, 1, 5, 6, 0xFFFFFFFF)]
    streams += [[active, (CLEAR, PCIF_ACTIVE, b"")], [(SET, 1, b""), (CLEAR, 1, b"")], [(WRITE, 571, b"xx")]]
    return [encode((1, 0, bell, tuple(ops))) for ops in streams for bell in (True, False)]


CALLS = vocabulary({op: messages.TO_HYPERVISOR[op] for op in ("hello", "ctl", *ROLE_OPS["domu"])})
CALLS += [
    encode((op, 9, 0, path)) for op in ("xs_read", "xs_mkdir", "xs_rm") for path in ("data/x", "/", "@x", "/tool")
]
CALLS += [encode(("xs_write", 9, 0, path, b"1")) for path in ("data/x", "device/pci/0/state", "control/shutdown")]
STATES = [msgpack.packb((0, b"%d" % state)) for state in range(10)]
TARGETS: dict[str, Row] = {
    **{
        f"decode_{name.lower()}": Row(lambda table=table: decoder(Decoder(table).decode), vocabulary(table), 9)  # type: ignore[misc]
        for name, table in TABLES.items()
    },
    "decode_channel": Row(lambda: decoder(decode_channel), page_stream(), 20),
    "page_stream": Row(PageStream, page_stream(), 10),
    "hypercalls": Row(Hypercalls, CALLS, 7),
    "registers": Row(Registers, vocabulary(messages.DEVBUS), 4),
    "journal": Row(Journal, [msgpack.packb([(1, "t", "printk", "", 6, "text")])], 1),
    "nodes": Row(Nodes, [*STATES, *(msgpack.packb((n, v)) for n, v in ((1, b"8"), (2, b"8"), (3, b"7")))], 1),
}
