"""A finding, and how each format of output writes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from harness.core.text import Shown, shown

#: Number of what reading the files finds, and of the words of systemd and Quadlet.
SAID = "SA000"


class Severity(StrEnum):
    """How bad it is: an error breaks what the units are for, a warning may."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """What one rule says of one line."""

    file: str
    line: int
    rule: str
    severity: Severity
    text: str
    hint: str = ""


def as_text(findings: Sequence[Finding]) -> Shown:
    """Return a line for each, as compilers write them, and its hint below."""
    lines = []
    for one in findings:
        lines.append(f"{one.file}:{one.line}: {one.severity}: {one.text} [{one.rule}]")
        lines += [f"    Hint: {one.hint}"] if one.hint else []
    return shown("\n".join(lines))


def as_json(findings: Sequence[Finding]) -> Shown:
    """Return a JSON array with an object for each."""
    texts = [asdict(one) | {"text": shown(one.text), "file": shown(one.file)} for one in findings]
    return Shown(json.dumps(texts, indent=1))


def as_github(findings: Sequence[Finding]) -> Shown:
    """Return workflow commands, by which GitHub shows each at its line."""
    # Commands are what this is for: only what they say is a stranger's.
    return Shown(
        "\n".join(
            f"::{one.severity} file={_escaped(one.file)},line={one.line},title={one.rule}::{_escaped(one.text)}"
            for one in findings
        )
    )


def _escaped(said: str) -> str:
    text: str = shown(said)
    for plain, written in (("%", "%25"), ("\r", "%0D"), ("\n", "%0A"), (":", "%3A"), (",", "%2C")):
        text = text.replace(plain, written)
    return text


def as_sarif(findings: Sequence[Finding]) -> Shown:
    """Return a log of SARIF 2.1.0, which code scanning takes."""
    results: list[dict[str, Any]] = [
        {
            "ruleId": one.rule,
            "level": str(one.severity),
            "message": {"text": shown(f"{one.text}{f' Hint: {one.hint}' if one.hint else ''}")},
            "locations": [
                {"physicalLocation": {"artifactLocation": {"uri": shown(one.file)}, "region": {"startLine": one.line}}}
            ],
        }
        for one in findings
    ]
    rules = [{"id": rule} for rule in sorted({one.rule for one in findings})]
    tool = {"driver": {"name": "socket-activation-harness", "rules": rules}}
    schema = "https://json.schemastore.org/sarif-2.1.0.json"
    whole = {"$schema": schema, "version": "2.1.0", "runs": [{"tool": tool, "results": results}]}
    return Shown(json.dumps(whole, indent=1))


FORMATS: Mapping[str, Callable[[Sequence[Finding]], Shown]] = {
    "text": as_text,
    "json": as_json,
    "github": as_github,
    "sarif": as_sarif,
}
