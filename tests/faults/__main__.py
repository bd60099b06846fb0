"""Prints the table of faults of docs/battery.md, from a run of each: python -m tests.faults."""

from __future__ import annotations

import sys

from harness.battery.promises import PROMISES
from harness.battery.trial import PromiseBroken, Trial
from harness.core import progress
from harness.runtime.runtime import Runtime
from harness.runtime.settings import Settings
from tests.faults.table import FAULTS, contract_of


def main() -> int:
    """Try every fault by the activation `unit`; the status is 1 where one was not found."""
    status = 0
    with Runtime(Settings(), progress.to_stderr) as runtime:
        for fault in FAULTS:
            said = "**not found**"
            try:
                with runtime.service(contract_of(fault.name, fault.promise)) as service:
                    PROMISES[fault.promise].attempt(Trial(service, fault.transport))
                status = 1
            except PromiseBroken as error:
                said = error.wrong
            sys.stdout.write(f"| `{fault.name}` | `{fault.promise}` | {said.replace('|', chr(92) + '|')} |\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
