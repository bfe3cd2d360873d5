"""The words of which the steps of a scenario are made."""

from __future__ import annotations

from collections.abc import Callable

from kernel_stub.rpc import RpcError
from xenaer.scenarios import hostile_words as hostile
from xenaer.scenarios.stage import Stage
from xenaer.simulation import SimError

WORDS: dict[str, Callable[..., None]] = {
    # time
    "run": Stage.run,
    "until": Stage.until,
    "until-node": Stage.until_node,
    # hardware and operator
    "inject": Stage.inject,
    "last-reset": Stage.last_reset,
    "slow-reset": Stage.slow_reset,
    "sysfs-reset": Stage.sysfs_reset,
    "eject": Stage.eject,
    "xl": Stage.xl,
    "start": Stage.start,
    "begin": Stage.begin,
    "quirk": Stage.quirk,
    "store": Stage.store,
    "conflict": Stage.conflict,
    # guests as a whole, and the way to them
    "kill": Stage.kill,
    "freeze": Stage.freeze,
    "thaw": Stage.thaw,
    "hold": Stage.hold,
    "release": Stage.release,
    # guests with manners
    "config": Stage.config,
    "scan": Stage.scan,
    # guests without
    "op": hostile.op,
    "reply": hostile.reply,
    "bell": hostile.bell,
    "flag": hostile.flag,
    "answer": hostile.answer,
    "votes": hostile.votes,
    "flood": hostile.flood,
    "poke": hostile.poke,
    "node": hostile.node,
    "call": hostile.call,
    "many": hostile.many,
    "watches": hostile.watches,
    "transactions": hostile.transactions,
    "garbage": hostile.garbage,
    "offer-again": hostile.offer_again,
    # what is noted
    "owner": Stage.owner,
    "remember": Stage.remember,
    "quirks": Stage.quirks,
    "dma": hostile.dma,
    "statistics": hostile.statistics,
    "state": hostile.state,
}


def play_steps(stage: Stage, steps: str) -> None:
    """Carry out ``word argument ...; word ...``. A dom0 that dies of a bug ends the scenario."""
    for step in steps.split(";"):
        word, *args = step.split()
        try:
            WORDS[word](stage, *args)
        except SimError as error:
            stage.notes.append(f"{word}: {error}")
        except (RpcError, AssertionError, AttributeError, ValueError) as error:
            if not _dom0_oopsed(stage):
                raise
            stage.notes.append(f"dom0 crashes: {type(error).__name__}")
            return


def _dom0_oopsed(stage: Stage) -> bool:
    return any(party == "dom0" and record[2] == "kernel.oops" for party, record in stage.system.raw_records())
