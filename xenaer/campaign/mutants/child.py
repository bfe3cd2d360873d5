"""The process of one mutant: puts it in force, then hunts it. Started by ``process``, which kills it if need be.

Whatever is imported before ``install`` must not be a core, so what plays is imported after it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import msgpack

from protocol.parent_death import die_with_parent
from xenaer.campaign.mutants import hook
from xenaer.campaign.mutants.catalogue import mutant
from xenaer.campaign.run import heartbeat
from xenaer.campaign.run.wire import framed


def main(order: dict[str, Any]) -> None:
    """Hunt the mutant ``order["mutant"]`` with the plan of the file ``order["file"]``."""
    die_with_parent(order["parent"])
    sys.stdout = sys.stderr  # what a driver prints must not get into the results
    defect, mutation = mutant(order["mutant"])
    if mutation is not None:
        hook.install(mutation)
    from xenaer.campaign.form import MutantsForm  # noqa: PLC0415 - now that the mutation is in force
    from xenaer.campaign.mutants.hunt import hunt  # noqa: PLC0415
    from xenaer.campaign.mutants.plan import plan  # noqa: PLC0415

    heartbeat.attach(heartbeat.Memory(order["memory"]))

    def say(message: dict[str, Any]) -> None:
        data = memoryview(framed(msgpack.packb(message)))
        while data:
            data = data[os.write(order["answers"], data) :]

    form = MutantsForm.model_validate(order["form"])
    hunt(plan(Path(order["file"]), form), defect, say)
