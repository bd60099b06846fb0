"""Which OCI runtime sessions use, and the capability that decides it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.capabilities.userspace import crun_systemd
from harness.core.machine import Machine
from harness.session.oci_runtime import runtime_of
from tests.helpers.probing import script

WITH = "echo crun version 1.14; echo '+SYSTEMD +SELINUX +CAP'"
WITHOUT = "echo crun version 1.14; echo '+SELINUX +CAP'"


@pytest.mark.parametrize(
    ("crun", "runc", "chosen", "capable"),
    [
        (WITH, True, "crun", True),
        (WITHOUT, True, "runc", False),
        (WITHOUT, False, "crun", False),
        ("exit 1", True, "runc", False),
        ("", True, "runc", False),
        ("", False, "crun", False),
    ],
)
def test_the_runtime_of_a_machine(tmp_path: Path, crun: str, runc: bool, chosen: str, capable: bool) -> None:
    """What a machine has -> what its sessions use: crun with +SYSTEMD, else runc where it is there."""
    if crun:
        script(tmp_path, "/usr/bin/crun", crun)
    if runc:
        script(tmp_path, "/usr/bin/runc", "")
    machine = Machine(root=tmp_path)
    assert runtime_of(machine) == chosen
    assert crun_systemd(machine).present is capable
