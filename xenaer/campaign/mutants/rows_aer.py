"""Mistakes in the AER core: finding the source, severity, masks, clearing, rate limits, statistics (linux-aer.md)."""

from __future__ import annotations

from xenaer.campaign.mutants.mutation import Mutation

_SOURCE, _ISR, _IRQ = "dom0_pciback.aer.source", "dom0_pciback.aer.isr", "dom0_pciback.aer.irq"
_INFO, _STATUS, _HANDLE = "dom0_pciback.aer.info", "dom0_pciback.aer.status", "dom0_pciback.aer.handle"
_STATS, _LIMIT, _UNHEARD = "dom0_pciback.aer.stats", "dom0_pciback.aer.ratelimit", "dom0_pciback.aer.unheard"

AER_ROWS: tuple[Mutation, ...] = (
    Mutation(
        "aer-source-devfn-only", _SOURCE,
        "return record.id == dev.rid and record.id >> 8 != 0",
        "return record.id & 0xFF == dev.rid & 0xFF and record.id >> 8 != 0",
        "the source ID is compared without its bus: the first function with that devfn is blamed (linux-aer.md 3.4)",
    ),
    Mutation(
        "aer-source-wrong-register", _SOURCE,
        "        status, mask = AER.UNCOR_STATUS, AER.UNCOR_MASK",
        "        status, mask = AER.COR_STATUS, AER.COR_MASK",
        "the sources of an uncorrectable error are looked for in the correctable registers (linux-aer.md 3.4)",
    ),
    Mutation(
        "aer-source-first-only", _SOURCE,
        "return not _several(record)",
        "return True",
        "the search ends at the first source although several messages came (linux-aer.md 3.4)",
    ),
    Mutation(
        "aer-source-halves-swapped", _ISR,
        "record = ErrorRecord(source >> 16, severity, multi, rpc.reporting)",
        "record = ErrorRecord(source & 0xFFFF, severity, multi, rpc.reporting)",
        "the uncorrectable source is read from the correctable half of the register (linux-aer.md 3.3)",
    ),
    Mutation(
        "aer-multi-bit-of-other-class", _ISR,
        "multi = bool(status & AER_ROOT_MULTI_UNCOR_RCV)",
        "multi = bool(status & AER_ROOT_MULTI_COR_RCV)",
        "several uncorrectable messages are taken for one, so a second source is never looked for (linux-aer.md 3.3)",
    ),
    Mutation(
        "aer-severity-swapped", _ISR,
        "severity = _FATAL if status & AER_ROOT_FATAL_RCV else _NONFATAL",
        "severity = _NONFATAL if status & AER_ROOT_FATAL_RCV else _FATAL",
        "fatal and non-fatal messages are exchanged (T18)",
    ),
    Mutation(
        "aer-only-one-class", _ISR,
        "    if status & AER_ROOT_UNCOR_RCV:\n        severity",
        "    elif status & AER_ROOT_UNCOR_RCV:\n        severity",
        "an uncorrectable message that comes with a correctable one is dropped (linux-aer.md 3.3)",
    ),
    Mutation(
        "aer-first-device-only", _ISR,
        "    for dev in record.devs:\n",
        "    for dev in record.devs[:1]:\n",
        "of several sources only the first is recovered (linux-aer.md 3.6)",
    ),
    Mutation(
        "aer-irq-keeps-status", _IRQ,
        "    core.write(root, base + AER.ROOT_STATUS, 4, status)\n",
        "",
        "Root Error Status is not cleared: the level stays, and no further interrupt comes (linux-aer.md 3.2)",
    ),
    Mutation(
        "aer-irq-only-correctable", _IRQ,
        "    if not status & AER_ROOT_RECEIVED:\n",
        "    if not status & 0x1:\n",
        "an interrupt without a correctable message is taken for that of another device (linux-aer.md 3.2)",
    ),
    Mutation(
        "aer-fifo-dropped", _ISR,
        "status, source = rpc.fifo.popleft()",
        "status, source = rpc.fifo.popleft()\n            rpc.fifo.clear()",
        "interrupts that came while one was handled are thrown away (T28, T29)",
    ),
    Mutation(
        "aer-fatal-register-read", _INFO,
        "    return True\n\n\ndef _read_uncorrectable",
        "    return False\n\n\ndef _read_uncorrectable",
        "a fatal error of an endpoint counts as nothing to handle, since nothing was read (T19)",
    ),
    Mutation(
        "aer-info-mask-inverted", _INFO,
        "return record.status & ~record.mask != 0",
        "return record.status & record.mask != 0",
        "correctable errors are handled when they are masked, not when they are not (linux-aer.md 3.7)",
    ),
    Mutation(
        "aer-write-back-zero", _STATUS,
        "    core.write(dev, offset, 4, status)\n    return status",
        "    core.write(dev, offset, 4, 0)\n    return status",
        "status registers are cleared by writing 0, which clears nothing (RW1C, linux-aer.md 1.1)",
    ),
    Mutation(
        "aer-cor-not-cleared", _HANDLE,
        "    core.write(dev, dev.aer + AER.COR_STATUS, 4, record.status)\n",
        "",
        "Correctable Error Status is never cleared (T24)",
    ),
    Mutation(
        "aer-fatal-not-frozen", _HANDLE,
        "Severity.FATAL: ChannelState.FROZEN",
        "Severity.FATAL: ChannelState.NORMAL",
        "a fatal error is recovered without freezing the channel, so without a reset (linux-aer.md 3.8)",
    ),
    Mutation(
        "aer-count-masked", _STATS,
        "        self.totals[severity] += 1\n        counters",
        "        self.totals[severity] += 2\n        counters",
        "the total of a device counts twice (linux-aer.md 7.1)",
    ),
    Mutation(
        "aer-count-root-once", _STATS,
        "        if root_status & AER_ROOT_UNCOR_RCV:\n            fatal",
        "        elif root_status & AER_ROOT_UNCOR_RCV:\n            fatal",
        "the root port's counter misses an uncorrectable message beside a correctable one (T38)",
    ),
    Mutation(
        "aer-count-bit-off-by-one", _STATS,
        "counters[lowest.bit_length() - 1] += 1",
        "counters[lowest.bit_length() - 2] += 1",
        "the counter of the neighbouring bit is raised (linux-aer.md 7.1)",
    ),
    Mutation(
        "aer-limit-never-opens", _LIMIT,
        "        elif now - self.begin > self.interval * NS_PER_JIFFY:\n",
        "        elif now - self.begin < 0:\n",
        "the window of a rate limit never ends: after ten lines a device is never logged again (T35)",
    ),
    Mutation(
        "aer-limit-skips-handling", _ISR,
        "    if found:\n        await aer_process_err_devices(core, record, recover)",
        "    if found and record.root_ratelimit_print:\n        await aer_process_err_devices(core, record, recover)",
        "an error whose line is suppressed is not handled either (linux-aer.md 6.2)",
    ),
    Mutation(
        "aer-unheard-mask", _UNHEARD,
        "return 0 if value == ALL_ONES else value & ~core.read(dev, dev.aer + mask, 4)",
        "return 0 if value == ALL_ONES else value & core.read(dev, dev.aer + mask, 4)",
        "errors that a bus reset has swallowed are looked for among the masked bits (T26)",
    ),
)  # fmt: skip
