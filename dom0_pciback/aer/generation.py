"""How each kernel generation finds, counts, traces and prints errors: section 14 as a table.

How it recovers is the table of the same names in ``aer.recovery``. Kernels between the generations are not
modelled; where a row was not in the specification, its source is named beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from dom0_pciback.aer.names import HEADER_IF_CAPABLE, HEADER_LOGGED, WORDS, Words
from dom0_pciback.aer.names_old import LAST_NAMED, WORDS_2_6_27, WORDS_6_1
from dom0_pciback.aer.tlp_log import HEADER_DWORDS, MAX_DWORDS, TlpLog, tlp_header_text, tlp_log_text
from kernel_stub.kernel import DEBUG, INFO


class Reporting(NamedTuple):
    """One generation; each field is a row of section 14.

    ``source_line`` is the text on the root, "" for none; with ``source_first`` it comes before the search and
    does not depend on it. ``not_found_line`` is an extra line at ``not_found_level`` if no device was found.
    ``boxed``: a device's error is the block of 2008, without device names. ``counted`` has the status bits
    that have counters. ``header_raw``: masked bits, too, make the header valid. ``tests_enabled``: the search
    by status leaves out what no driver enabled. ``searches_all``: several reporters are looked for.
    ``announces_limit``: a sixth reporter gets a message. ``image_prefix`` and ``image_levels`` (by severity,
    or always an error) belong to what firmware reports, as does ``unknown_device``.
    """

    name: str
    words: Words
    source_line: str
    source_first: bool
    not_found_suffix: str
    not_found_line: str
    not_found_level: int
    boxed: bool
    tlp_text: Callable[[TlpLog], str]
    header_logged: int
    header_if_capable: int
    header_raw: bool
    counted: int
    counts_inaccessible: bool
    rate_limits: bool
    trace_first: bool
    trace_dwords: int
    tests_enabled: bool
    searches_all: bool
    announces_limit: bool
    image_prefix: str
    image_levels: bool
    unknown_device: str


# AER_LOG_TLP_MASKS of older kernels: 12, 15, 16, 18, 19, 20
_HEADER_OLD = 1 << 12 | 1 << 15 | 1 << 16 | 1 << 18 | 1 << 19 | 1 << 20

LINUX_7_2 = Reporting(
    name="linux-7.2",
    words=WORDS,
    source_line="AER: {multiple}{severity} error message received from {source}",
    source_first=False,
    not_found_suffix=" (no details found",  # T32: the parenthesis is never closed
    not_found_line="",
    not_found_level=INFO,
    boxed=False,
    tlp_text=tlp_log_text,
    header_logged=HEADER_LOGGED,
    header_if_capable=HEADER_IF_CAPABLE,
    header_raw=False,
    counted=0xFFFFFFFF,
    counts_inaccessible=True,
    rate_limits=True,
    trace_first=True,
    trace_dwords=MAX_DWORDS,
    tests_enabled=False,
    searches_all=True,
    announces_limit=True,
    image_prefix="",
    image_levels=True,
    unknown_device="AER: {source}: no pci_dev found",
)

# source_first, header_raw, announces_limit, image_* and unknown_device: from aer.c of about Linux 6.7
LINUX_6_1 = LINUX_7_2._replace(
    name="linux-6.1",
    words=WORDS_6_1,
    source_line="AER: {multiple}{severity} error received: {source}",
    source_first=True,
    not_found_suffix="",
    not_found_line="AER: can't find device of ID{id:04x}",
    tlp_text=tlp_header_text,
    header_logged=_HEADER_OLD,
    header_if_capable=0,
    header_raw=True,
    counted=(1 << LAST_NAMED + 1) - 1,
    counts_inaccessible=False,
    rate_limits=False,
    trace_first=False,
    trace_dwords=HEADER_DWORDS,
    tests_enabled=True,
    announces_limit=False,
    image_prefix="AER: ",
    image_levels=False,
    unknown_device="AER: no pci_dev for {source}",
)

# From aerdrv_core.c and aerdrv_errprint.c of 2008. It had no counters, no trace event and no firmware first:
# what is kept of these here is that of linux-6.1.
LINUX_2_6_27 = LINUX_6_1._replace(
    name="linux-2.6.27",
    words=WORDS_2_6_27,
    source_line="",
    not_found_line="aer_isr_one_error->can't find device of ID{id:04x}",
    not_found_level=DEBUG,
    boxed=True,
    searches_all=False,
)

REPORTING = {reporting.name: reporting for reporting in (LINUX_7_2, LINUX_6_1, LINUX_2_6_27)}
