"""The contract of an image: what it listens on, how to ask it, what it must reply, what that may cost.

A contract is a TOML file beside the image's Containerfile. `load` reports every mistake of a file at once.
"""

from __future__ import annotations

from harness.contract.image import BackendTable, Handover, ImageTable, Ready, SecretTable, TmpfsTable, VolumeTable
from harness.contract.loading import FILE_NAME, load, load_all, name_of, of_image, parse
from harness.contract.model import SCHEMA, BudgetsTable, Contract, LimitsTable
from harness.contract.probe import (
    Asks,
    BytesProbe,
    ClientImage,
    ConnectProbe,
    EchoProbe,
    ExecProbe,
    HttpProbe,
    Probe,
    Sends,
)
from harness.contract.promises import Promise
from harness.contract.sockets import SocketTable
from harness.contract.units import Listening, UnitFolder

__all__ = [
    "FILE_NAME",
    "SCHEMA",
    "Asks",
    "BackendTable",
    "BudgetsTable",
    "BytesProbe",
    "ClientImage",
    "ConnectProbe",
    "Contract",
    "EchoProbe",
    "ExecProbe",
    "Handover",
    "HttpProbe",
    "ImageTable",
    "LimitsTable",
    "Listening",
    "Probe",
    "Promise",
    "Ready",
    "SecretTable",
    "Sends",
    "SocketTable",
    "TmpfsTable",
    "UnitFolder",
    "VolumeTable",
    "load",
    "load_all",
    "name_of",
    "of_image",
    "parse",
]
