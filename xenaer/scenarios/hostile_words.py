"""What a hostile guest does: raw operations on its page, its nodes, its connection to the stub; and what is noted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kernel_stub.rpc import Rpc, RpcError
from protocol.ids import Sbdf
from protocol.xenbus import backend_dir, frontend_dir
from xenaer.scenarios.hosts import place
from xenaer.scenarios.stage import Stage


def op(stage: Stage, name: str, *numbers: str) -> None:
    """Write a raw request (cmd err domain bus devfn offset size value info, missing ones 0) and ring."""
    page = stage.channel(name).page
    values = [int(number, 16) for number in numbers]
    page.write_op((*values, *[0] * (9 - len(values))))
    page.set_bit(0)
    stage.channel(name).notify()


def reply(stage: Stage, name: str, ms: str = "5") -> None:
    """After a moment, what stands in the request slot is a reply; a flag that is still set has none."""
    stage.run(ms)
    page = stage.channel(name).page
    err, value = page.op_result()
    stage.replies.append("none" if page.test_bit(0) else f"{err} {value:x}")


def bell(stage: Stage, name: str, count: str = "1", gap_ms: str = "1") -> None:
    """Ring the doorbell."""
    for _ in range(int(count)):
        if stage.channel(name).closed:
            return
        stage.channel(name).notify()
        stage.run(gap_ms)


def flag(stage: Stage, name: str, word: str, bit: str) -> None:
    """Set or clear a flag bit, without ringing."""
    channel = stage.channel(name)
    (channel.page.set_bit if word == "set" else channel.page.clear_bit)(int(bit))
    channel.flush()


def answer(stage: Stage, name: str, value: str = "") -> None:
    """Answer an AER request with a number, or by clearing the flag alone."""
    channel = stage.channel(name)
    if value:
        channel.page.write_aer_err(int(value))
    channel.page.clear_bit(2)
    channel.notify()


def poke(stage: Stage, name: str, offset: str, data: str) -> None:
    """Write raw bytes into the page, without ringing."""
    channel = stage.channel(name)
    channel.page.write(int(offset), bytes.fromhex(data))
    channel.flush()


def node(stage: Stage, name: str, key: str, value: str = "") -> None:
    """Write a node of the frontend's directory."""
    domu = stage.sim_guest(name).domu
    domu.kernel.spawn(_guarded(stage, domu.xenbus.write(f"{frontend_dir(domu.domid)}/{key}", value)), "node")
    stage.run("5")


def call(stage: Stage, name: str, request: str, *args: str) -> None:
    """Any request of the guest to the stub; numbers are decimal, ``x*4097`` is a long value."""
    domu = stage.sim_guest(name).domu
    domu.kernel.spawn(_guarded(stage, domu.rpc.call(request, *(_value(arg) for arg in args))), "call")
    stage.run("5")


async def _guarded(stage: Stage, request: Any) -> None:
    try:
        await request
    except RpcError as error:
        stage.replies.append(str(error))
    else:
        stage.replies.append("ok")


def _value(text: str) -> Any:
    if text.isdecimal():
        return int(text)
    stem, star, count = text.partition("*")
    return stem.encode() * int(count) if star else text


def votes(stage: Stage, name: str, *values: str) -> None:
    """Answer the next AER requests with these numbers."""
    stage.sim_guest(name).domu.votes = [int(value) for value in values]


def flood(stage: Stage, name: str, count: str) -> None:
    """One request after the other, as fast as doorbells go."""
    for _ in range(int(count)):
        op(stage, name, "0", "0", "0", "0", "0", "0", "4")
        stage.run("0.02")


def many(stage: Stage, name: str, count: str) -> None:
    """Write so many nodes; the different answers are the reply. How many fit depends on what else there is."""
    _repeat(stage, name, count, lambda rpc, n: rpc.call("xs_write", 0, f"data/{n}", b""), counted=False)


def watches(stage: Stage, name: str, count: str) -> None:
    """Watch so many nodes."""
    _repeat(stage, name, count, lambda rpc, n: rpc.call("xs_watch", f"data/{n}", str(n)))


def transactions(stage: Stage, name: str, count: str) -> None:
    """Leave so many transactions open."""
    _repeat(stage, name, count, lambda rpc, n: rpc.call("xs_start"))


def _repeat(stage: Stage, name: str, count: str, request: Callable[[Rpc, int], Any], *, counted: bool = True) -> None:
    domu = stage.sim_guest(name).domu
    answers: dict[str, int] = {}

    async def body() -> None:
        for number in range(int(count)):
            try:
                await request(domu.rpc, number)
                text = "ok"
            except RpcError as error:
                text = str(error)
            answers[text] = answers.get(text, 0) + 1

    domu.kernel.spawn(body(), "requests")
    stage.run("1000")
    stage.replies.append(", ".join(f"{text} {number}" if counted else text for text, number in answers.items()))


def garbage(stage: Stage, name: str) -> None:
    """A message on the channel that breaks its rules."""
    stage.channel(name).link.send((99, 0, True, ()))


def offer_again(stage: Stage, name: str) -> None:
    """Close, and connect once more with another page."""
    domu = stage.sim_guest(name).domu
    domu.kernel.spawn(domu.connect(), "connect")
    stage.run("50")


def dma(stage: Stage, device: str, name: str) -> None:
    """Note whether a device can reach its guest's memory."""
    iommu = stage.system.dom0.resets.iommu
    can = iommu.allows(Sbdf.parse(place(device)), stage.domid(name))
    stage.notes.append(f"{device} {'reaches' if can else 'does not reach'} {name}")


def statistics(stage: Stage, name: str, *keys: str) -> None:
    """Note counters of the guest's event channel."""
    found = stage.system.ctl("dom0", "channel-stats", [stage.domid(name)])
    stage.notes.append(" ".join(f"{key}={found[key]}" for key in keys))


def state(stage: Stage, name: str) -> None:
    """Note both xenbus states."""
    read = stage.system.hypervisor.machine.xs.read
    domid = stage.domid(name)
    stage.notes.append(f"be {read(f'{backend_dir(domid)}/state')} fe {read(f'{frontend_dir(domid)}/state')}")
