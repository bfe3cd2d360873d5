"""Mistakes in pciback: asking the guest, time-outs, decisions about answers, the request to kill, give and take."""

from __future__ import annotations

from xenaer.campaign.mutants.mutation import Mutation

_ASK, _PROFILE, _EVENTS = "dom0_pciback.pciback.ask", "dom0_pciback.pciback.profile", "dom0_pciback.pciback.events"
_PCIBACK, _BACKEND, _STUB = "dom0_pciback.pciback.pciback", "dom0_pciback.pciback.backend", "dom0_pciback.pciback.stub"
_HANDLERS = "dom0_pciback.pciback.handlers"

PCIBACK_ROWS: tuple[Mutation, ...] = (
    Mutation(
        "ask-wrong-phase", _ASK,
        "Phase.SLOT_RESET: PciOp.AER_SLOTRESET,",
        "Phase.SLOT_RESET: PciOp.AER_MMIO,",
        "the guest hears mmio_enabled again instead of slot_reset (WIRE, BE-10)",
    ),
    Mutation(
        "ask-no-doorbell", _ASK,
        "    channel.notify()\n    events.eoi()",
        "    events.eoi()",
        "the request stands in the page and nobody rings (BE-11)",
    ),
    Mutation(
        "ask-timeout-never", _ASK,
        "            return _TIMEOUT\n        await events.answered.wait(deadline)\n    if not",
        "            deadline += 1_000_000_000_000\n        await events.answered.wait(deadline)\n    if not",
        "a mute guest is waited for without end (H3)",
    ),
    Mutation(
        "ask-detach-unnoticed", _ASK,
        "        if psdev.detaching:\n            return Situation.DETACHED\n        if pdev.lost",
        "        if pdev.lost",
        "a detach waits for the recovery, and the recovery for the guest (H11)",
    ),
    Mutation(
        "ask-pause-is-silence", _ASK,
        "credit = min(paused, self.extra)",
        "credit = min(paused, 0)",
        "time in which the operator has paused a guest counts as silence (errata 9.2 no. 15)",
    ),
    Mutation(
        "ask-mute-asked-again", _ASK,
        "    if pdev.mute:\n        return _TIMEOUT\n",
        "",
        "a guest that did not answer is asked again (H16)",
    ),
    Mutation(
        "ask-eoi-missing", _ASK,
        "    if not events.op_active:\n        events.eoi()\n",
        "",
        "the event of an answer is never ended, so the next one does not come in (H4)",
    ),
    Mutation(
        "decide-invalid-tolerated", _PROFILE,
        'Row("invalid-answer",    (S.ANSWER_INVALID,),                  _ALL,    _DISCONNECT,  _KILL,',
        'Row("invalid-answer",    (S.ANSWER_INVALID,),                  _ALL,    _RECOVERED,   _NOTHING,',
        "an answer that is no vote counts as recovered (H8)",
    ),
    Mutation(
        "decide-none-lives", _PROFILE,
        'Row("no-service",        _REFUSED,                             _ALL,    _DISCONNECT,  _KILL,',
        'Row("no-service",        _REFUSED,                             _ALL,    _RECOVERED,   _NOTHING,',
        "a guest that refuses lives on as if it had recovered (H15)",
    ),
    Mutation(
        "decide-mute-forgiven", _PROFILE,
        'Row("mute",              (S.TIMEOUT,),                         _ALL,    _DISCONNECT,  _KILL,    _MUTE)',
        'Row("mute",              (S.TIMEOUT,),                         _ALL,    _DISCONNECT,  _NOTHING, _MUTE)',
        "a mute guest is not reported for killing (H3)",
    ),
    Mutation(
        "decide-young-killed", _PROFILE,
        'Row("young",             (S.NO_SHARED_PAGE_YOUNG,),            _ALL,    _NONE,        _NOTHING,',
        'Row("young",             (S.NO_SHARED_PAGE_YOUNG,),            _ALL,    _DISCONNECT,  _KILL,',
        "a guest that is still connecting is killed (H13)",
    ),
    Mutation(
        "decide-detached-killed", _PROFILE,
        'Row("detached",          (S.DETACHED,),                        _ALL,    _NONE,        _NOTHING)',
        'Row("detached",          (S.DETACHED,),                        _ALL,    _DISCONNECT,  _KILL)',
        "a guest dies for a device that is being taken from it (H11)",
    ),
    Mutation(
        "events-answer-missed", _EVENTS,
        "if self.op_pending and not flags & 1 << PCIB_ACTIVE:",
        "if self.op_pending and not self.op_active and not flags & 1 << PCIB_ACTIVE:",
        "an answer that comes during a configuration request wakes nobody (BE-14, I2)",
    ),
    Mutation(
        "events-spurious-free", _EVENTS,
        "        return min(JIFFY << self.spurious - 1 - SPURIOUS_THRESHOLD, DELAY_MAX)",
        "        return 0",
        "spurious events are let in as fast as they come (8.2, X13)",
    ),
    Mutation(
        "kill-wrong-word", _PCIBACK,
        'await self.xenbus.write(path, "aerfail", tx)',
        'await self.xenbus.write(path, "aer_fail", tx)',
        "aerState gets a word that the toolstack does not know (KILL-1)",
    ),
    Mutation(
        "take-back-without-reset", _PCIBACK,
        "                rc, _ = await reset_function_locked(self.core, psdev.dev)\n                failed",
        "                rc = 0\n                failed",
        "a device that comes back from a guest is not reset (BE-20, 4.7)",
    ),
    Mutation(
        "state-any-magic", _BACKEND,
        "        if magic != MAGIC:\n",
        "        if magic is None:\n",
        "a frontend of another protocol version is connected (BE-2, X31)",
    ),
    Mutation(
        "state-lost-function-reached", _BACKEND,
        "        if sbdf is None or not self.pciback.owns(sbdf, self.domid):\n",
        "        if sbdf is None:\n",
        "a guest that was cut off still reaches configuration space (KILL-4)",
    ),
    Mutation(
        "take-back-keeps-owner", _STUB,
        "        self.pdev = None\n        self.young_since = None\n",
        "        self.young_since = None\n",
        "a device that came back still belongs to its last guest (BE-20)",
    ),
    Mutation(
        "advisory-clears-real", _HANDLERS,
        "not read(dev, dev.exp + EXP.DEVSTA, 2) & (EXP_DEVSTA_NFED | EXP_DEVSTA_FED)",
        "read(dev, dev.exp + EXP.DEVSTA, 2) >= 0",
        "a correctable error clears the status of a real one that is still to be handled (errata 9.2 no. 8)",
    ),
)  # fmt: skip
