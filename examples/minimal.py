#!/usr/bin/env python3
"""A guest driver without a data path, as an external program: driver: "program:./minimal.py". See docs/DRIVERS.md."""

import sys


def ask(request):
    """The guest's answer: what stands behind OK, None for FAIL. Calls may come before it."""
    print(request, flush=True)
    for line in sys.stdin:
        word, _, value = line.strip().partition(" ")
        if word in ("OK", "FAIL"):
            return value if word == "OK" else None
        print(serve(word, value), flush=True)
    sys.exit()  # the guest is gone


def serve(call, argument):
    """Do what the guest wants; the line that ends the call."""
    if call == "hello":
        return "OK name=minimal handlers=error_detected,slot_reset,resume"
    if call == "probe":
        return "OK" if ask("enable_device") is not None and ask("save_state") is not None else "FAIL no device"
    if call == "error_detected":
        return "OK NEED_RESET" if argument.startswith("frozen") else "OK CAN_RECOVER"
    if call == "slot_reset":
        ask("restore_state")
        vendor = ask("config_readw 0")
        return "OK RECOVERED" if int(vendor, 0) != 0xFFFF else "OK DISCONNECT"
    if call == "resume":
        ask("printk 6 running again")
    return "OK"


for line in sys.stdin:
    print(serve(*line.strip().partition(" ")[::2]), flush=True)
