"""The words of older kernels (linux-aer.md 14): fewer named bits, no layer ``General``, no ``Component ID``.

Those of linux-2.6.27 are facts of its ``aerdrv_errprint.c``; the specification does not have them.
"""

from __future__ import annotations

from dom0_pciback.aer.names import COR_NAMES, SEVERITY_TEXT, UNCOR_NAMES, Masks, Words
from protocol.bits import COMPLETER, DATA_LINK, PHYSICAL, REQUESTER, TRANSMITTER
from protocol.ers import Severity

LAST_NAMED = 26  # uncorrectable bits 27 to 31 had neither name nor counter

_DLP = 1 << 4
_BAD_TLP, _BAD_DLLP, _ROLLOVER, _REPLAY_TIMER = 1 << 6, 1 << 7, 1 << 8, 1 << 12
_TIMEOUT, _ABORT, _UNSUPPORTED = 1 << 14, 1 << 15, 1 << 20

_COR_LAYERS: Masks = ((1, PHYSICAL), (_BAD_TLP | _BAD_DLLP | _ROLLOVER | _REPLAY_TIMER, DATA_LINK))
_COR_AGENTS: Masks = ((_ROLLOVER | _REPLAY_TIMER, TRANSMITTER),)
_UNCOR_AGENTS: Masks = ((_ABORT, COMPLETER), (_TIMEOUT | _UNSUPPORTED, REQUESTER))

WORDS_6_1 = Words(
    SEVERITY_TEXT,
    (COR_NAMES, {bit: name for bit, name in UNCOR_NAMES.items() if bit <= LAST_NAMED}),
    (_COR_LAYERS, ((_DLP, DATA_LINK),)),
    (_COR_AGENTS, _UNCOR_AGENTS),
)

# fmt: off
_COR_2008 = {
    0: "Receiver Error", 6: "Bad TLP", 7: "Bad DLLP", 8: "RELAY_NUM Rollover", 12: "Replay Timer Timeout",
    13: "Advisory Non-Fatal",
}
_UNCOR_2008 = {
    4: "Data Link Protocol", 12: "Poisoned TLP", 13: "Flow Control Protocol", 14: "Completion Timeout",
    15: "Completer Abort", 16: "Unexpected Completion", 17: "Receiver Overflow", 18: "Malformed TLP", 19: "ECRC",
    20: "Unsupported Request",
}
# fmt: on

# Masks of one class were applied to the other as well, apart from the replay timer.
_LINK_BOTH = _DLP | _BAD_TLP | _BAD_DLLP | _ROLLOVER
WORDS_2_6_27 = Words(
    {
        Severity.NONFATAL: "Uncorrected (Non-Fatal)",
        Severity.FATAL: "Uncorrected (Fatal)",
        Severity.CORRECTABLE: "Corrected",
    },
    (_COR_2008, _UNCOR_2008),
    (
        ((1, PHYSICAL), (_LINK_BOTH | _REPLAY_TIMER, DATA_LINK)),
        ((1, PHYSICAL), (_LINK_BOTH, DATA_LINK)),
    ),
    (
        (*_UNCOR_AGENTS, (_ROLLOVER | _REPLAY_TIMER, TRANSMITTER)),
        (*_UNCOR_AGENTS, (_ROLLOVER, TRANSMITTER)),
    ),
)
