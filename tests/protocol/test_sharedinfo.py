"""protocol.sharedinfo: byte layout (golden vectors), WIRE-1 to WIRE-7, and the stream of operations."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import sharedinfo as si
from protocol.sharedinfo import PciErr, PciOp, SharedPage, wrap_s32

DATA = Path(__file__).parent / "data" / "pciif_golden_vectors.json"
VECTORS: dict[str, dict[str, Any]] = {vector["name"]: vector for vector in json.loads(DATA.read_text())}
DEVFN = 0x08
PAGE_FORMAT = "<IIiIIIiiII256HIiIII"  # 1.1
S32 = st.integers(-(2**31), 2**31 - 1)
U32 = st.integers(0, 2**32 - 1)


def image(vector: dict[str, Any]) -> bytes:
    page = bytearray(vector["length"])
    for offset, run in vector["nonzero_runs"]:
        raw = bytes.fromhex(run)
        page[offset : offset + len(raw)] = raw
    return bytes(page)


def idle() -> SharedPage:
    page = SharedPage()
    page.set_bit(si.PCIB_AERHANDLER)
    return page


def request(*op: int) -> SharedPage:
    page = idle()
    page.write_op(op)
    page.set_bit(si.PCIF_ACTIVE)
    return page


def conf_read() -> SharedPage:
    return request(PciOp.CONF_READ, 0, 0, 0, DEVFN, 0, 4, 0, 0)


def answered(page: SharedPage, err: int, value: int) -> SharedPage:
    page.write_result(err, value)
    page.clear_bit(si.PCIF_ACTIVE)
    return page


def msix() -> SharedPage:
    page = idle()
    page.write_msix(((0xFFFF, 0), (0xFFFF, 1)))
    page.write_op((PciOp.ENABLE_MSIX, 0, 0, 0, DEVFN, 0, 0, 2, 0))
    page.set_bit(si.PCIF_ACTIVE)
    return page


def msix_granted() -> SharedPage:
    page = answered(msix(), 0, 0)
    page.write_msix(((72, 0), (73, 1)))
    return page


def frozen() -> SharedPage:
    page = idle()
    page.write_aer(PciOp.AER_DETECTED, 2, 0, 0, DEVFN)
    page.set_bit(si.PCIB_ACTIVE)
    return page


def need_reset() -> SharedPage:
    page = frozen()
    page.write_aer_err(3)
    page.clear_bit(si.PCIB_ACTIVE)
    return page


def both() -> SharedPage:
    page = request(PciOp.CONF_WRITE, 0, 0, 0, DEVFN, 4, 2, 0x406, 0)
    page.write_aer(PciOp.AER_SLOTRESET, 1, 0, 0, DEVFN)
    page.set_bit(si.PCIB_ACTIVE)
    return page


MADE = {
    "idle, frontend supports AER": idle,
    "frontend asks conf_read 4 bytes at offset 0 of 0000:00:01.0": conf_read,
    "backend answered it with id 0x15218086": lambda: answered(conf_read(), 0, 0x15218086),
    "backend refuses (device not found)": lambda: answered(conf_read(), PciErr.DEV_NOT_FOUND, 0),
    "frontend asks enable_msix for 2 vectors on 00:01.0": msix,
    "backend granted them as pirqs 72 and 73": msix_granted,
    "backend sends error_detected(frozen) for 00:01.0": frozen,
    "frontend answered NEED_RESET": need_reset,
    "conf_write and AER slot_reset in flight at the same time": both,
}


def test_every_golden_vector_is_tested() -> None:
    assert MADE.keys() == VECTORS.keys()


@pytest.mark.parametrize("name", VECTORS)
def test_golden_vector_is_packed_byte_for_byte(name: str) -> None:
    assert bytes(MADE[name]().data) == image(VECTORS[name])


@pytest.mark.parametrize("name", VECTORS)
def test_golden_vector_is_unpacked_as_the_plain_format_says(name: str) -> None:
    raw = image(VECTORS[name])
    fields = struct.unpack(PAGE_FORMAT, raw)
    page = SharedPage(raw)
    assert page.op() == fields[1:10]
    assert page.msix_entries(128) == tuple(zip(fields[10:266:2], fields[11:266:2], strict=True))
    assert page.aer_op() == fields[266:]
    assert [page.test_bit(bit) for bit in range(32)] == [bool(fields[0] >> bit & 1) for bit in range(32)]


def test_1_1_sizes_and_offsets() -> None:
    assert si.PAGE_SIZE == struct.calcsize(PAGE_FORMAT) == 572
    assert (si.OP, si.OP_ERR, si.OP_VALUE, si.OP_MSIX, si.AER_OP, si.AER_ERR) == (4, 8, 32, 40, 552, 556)
    assert si.OP + si.OP_HEAD == si.OP_MSIX
    assert si.OP_MSIX + si.MSIX_BYTES == si.AER_OP


def test_1_4_operation_codes_and_the_order_of_a_recovery() -> None:
    recovery = [PciOp.AER_DETECTED, PciOp.AER_MMIO, PciOp.AER_SLOTRESET, PciOp.AER_RESUME]
    assert [int(op) for op in recovery] == [6, 8, 9, 7]
    assert [int(op) for op in PciOp] == list(range(10))


def test_1_5_error_codes() -> None:
    assert [int(err) for err in PciErr] == [0, -1, -2, -3, -4, -5]


def test_wire_1_only_single_bits_of_the_flags_travel() -> None:
    """Both sides change flags at the same time: neither loses the other's change."""
    front, back = idle(), idle()
    front.pending.clear()
    back.pending.clear()
    front.set_bit(si.PCIF_ACTIVE)
    back.set_bit(si.PCIB_ACTIVE)
    ops_front, ops_back = tuple(front.pending), tuple(back.pending)
    assert all(code != si.WRITE for code, _, _ in ops_front + ops_back)
    front.apply(ops_back)
    back.apply(ops_front)
    assert front.data == back.data
    assert front.data[0] == 0b111


@pytest.mark.parametrize("name", VECTORS)
def test_wire_1_no_operation_of_ours_writes_the_flags_word(name: str) -> None:
    assert all(arg >= si.OP for code, arg, _ in MADE[name]().pending if code == si.WRITE)


def test_wire_2_high_flag_bits_of_a_hostile_guest_are_kept_and_hurt_nobody() -> None:
    page = idle()
    page.apply(tuple((si.SET, bit, b"") for bit in range(3, 32)))
    page.set_bit(si.PCIF_ACTIVE)
    page.clear_bit(si.PCIF_ACTIVE)
    assert bytes(page.data[:4]) == b"\xfa\xff\xff\xff"
    assert page.op() == (0,) * 9, "flags never reach into op.cmd"


@pytest.mark.parametrize("make", [conf_read, frozen, both])
def test_wire_3_payload_comes_before_the_flag(make: Any) -> None:
    codes = [code for code, arg, _ in make().pending if (code, arg) != (si.SET, si.PCIB_AERHANDLER)]
    assert codes == [si.WRITE, si.SET] * (len(codes) // 2)


@pytest.mark.parametrize(("state", "reads_as"), [(1, "NONE"), (2, "CAN_RECOVER"), (3, "NEED_RESET")])
def test_wire_6_the_flag_cleared_alone_answers_with_the_state(state: int, reads_as: str) -> None:
    from protocol.ers import result_name  # noqa: PLC0415 - only this test speaks of votes

    page = idle()
    page.write_aer(PciOp.AER_DETECTED, state, 0, 0, DEVFN)
    page.set_bit(si.PCIB_ACTIVE)
    page.apply(((si.CLEAR, si.PCIB_ACTIVE, b""),))
    assert result_name(page.aer_err()) == reads_as


@given(S32)
def test_wire_7_any_result_passes_as_it_is(value: int) -> None:
    page = idle()
    page.write_aer_err(value)
    assert page.aer_err() == value


@pytest.mark.parametrize(
    ("value", "stored"), [(0x80000000, -(2**31)), (0xFFFFFFFF, -1), (-(2**31) - 1, 2**31 - 1), (2**40 + 5, 5)]
)
def test_results_wrap_as_an_s32_does(value: int, stored: int) -> None:
    assert wrap_s32(value) == stored
    page = idle()
    page.write_aer_err(value)
    assert page.aer_err() == stored


@given(st.tuples(U32, S32, U32, U32, U32, S32, S32, U32, U32))
def test_an_op_reads_back_as_written(op: tuple[int, ...]) -> None:
    page = idle()
    page.write_op(op)
    assert page.op() == op
    assert page.op_bytes() == bytes(page.data[4:40])
    assert page.aer_op() == (0,) * 5


def test_a_result_changes_err_and_value_only() -> None:
    page = request(*range(1, 10))
    page.write_result(-3, 0xFFFFFFFF)
    assert page.op() == (1, -3, 3, 4, 5, 6, 7, 0xFFFFFFFF, 9)


def test_1_7_all_128_msix_entries_fit_and_not_one_more() -> None:
    page = idle()
    entries = tuple((index, 0xFFFF - index) for index in range(128))
    page.write_msix(entries)
    assert page.msix_entries(128) == entries
    assert page.aer_op() == (0,) * 5
    with pytest.raises(struct.error):
        page.msix_entries(300)


def test_a_page_begins_with_the_image_of_the_grant() -> None:
    assert bytes(SharedPage(b"\x02").data) == b"\x02" + bytes(571)
    assert len(SharedPage(bytes(4096)).data) == 572


@pytest.mark.parametrize(
    "op", [(si.WRITE, 571, b"xx"), (si.WRITE, 0, bytes(573)), (si.SET, 32, b""), (si.CLEAR, 571, b"")]
)
def test_x48_operations_outside_the_page_are_refused(op: si.PageOp) -> None:
    page = idle()
    before = bytes(page.data)
    with pytest.raises(ValueError):
        page.apply((op,))
    assert bytes(page.data) == before


def test_what_the_other_end_did_is_not_sent_back() -> None:
    page = SharedPage()
    page.apply(((si.WRITE, 4, b"abc"), (si.SET, 0, b""), (si.CLEAR, 0, b"")))
    assert page.pending == []
    assert bytes(page.data[:8]) == b"\0\0\0\0abc\0"
