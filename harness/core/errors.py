"""One tree of errors, each holding data, and the one place that turns them into sentences.

Every error names who has to act (`Blame`), says what happened in one full sentence, shows what was seen, and gives a
hint.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from enum import StrEnum

from harness.core.text import shown

#: Lines of a program's output that an error shows; the bundle holds all of it.
SHOWN_LINES = 25

#: Lines of what has to be corrected.
ALL_LINES = 500

#: Characters of what a client printed that an error shows.
SHOWN_CHARACTERS = 4000


class Blame(StrEnum):
    """Who has to act when an error is shown."""

    INPUT = "input error"
    IMAGE = "image error"
    MACHINE = "environment error"
    HARNESS = "harness error"
    #: What was seen accuses nobody: the evidence has to be read.
    UNKNOWN = "inconclusive"


#: Exit status of a run, and of a command, where no image is to blame: apart from all that pytest uses (0 to 5).
INFRASTRUCTURE = 10


class HarnessError(Exception):
    """The root of the tree; `str()` of any of them is the rendered text."""

    #: Who has to act; an instance may know better than its class.
    blame: Blame = Blame.HARNESS

    #: Lines of each piece of evidence that its text has.
    lines = SHOWN_LINES

    def __init__(
        self,
        sentence: str,
        *,
        hint: str = "",
        evidence: Mapping[str, str] | None = None,
        blame: Blame | None = None,
    ) -> None:
        super().__init__(sentence)
        if blame is not None:
            self.blame = blame
        #: What happened, a full sentence that names the thing in quotes.
        self.sentence: str = shown(sentence)
        #: What to do, in the imperative; empty where only reading the evidence helps.
        self.hint: str = shown(hint)
        #: Title -> text of what was seen, in the order in which to read it.
        self.evidence: dict[str, str] = dict(evidence or {})

    def __str__(self) -> str:
        return render(self)


class UsageError(HarnessError):
    """An option, argument or file of the user's can't be used."""

    blame = Blame.INPUT


class MistakesError(HarnessError):
    """Something that was written has mistakes; `mistakes` holds all of them at once, each `(where, what is wrong)`."""

    blame = Blame.INPUT
    lines = ALL_LINES

    def __init__(self, subject: str, verb: str, hint: str, mistakes: Sequence[tuple[str, str]]) -> None:
        self.mistakes = tuple(mistakes)
        count = "1 mistake" if len(self.mistakes) == 1 else f"{len(self.mistakes)} mistakes"
        told = "\n".join(f"{where}: {text}" for where, text in self.mistakes)
        super().__init__(f"{subject} {verb} {count}.", hint=hint, evidence={"mistakes": told})


class ContractError(MistakesError):
    """A contract has mistakes, each `(key, what is wrong and allowed)`."""

    def __init__(self, file: str, mistakes: Sequence[tuple[str, str]]) -> None:
        self.file = file
        hint = "Correct the keys named above; docs/contracts.md lists every key."
        super().__init__(f"The contract '{file}'", "has", hint, mistakes)


class UnitsError(MistakesError):
    """A folder of unit files has mistakes, each `(file, what is wrong)`."""

    def __init__(self, folder: str, mistakes: Sequence[tuple[str, str]]) -> None:
        self.folder = folder
        hint = "Correct the files named above; docs/your-units.md says what is taken as it is."
        super().__init__(f"The unit files in '{folder}'", "have", hint, mistakes)


class CapabilityMissing(HarnessError):
    """The machine lacks something that was required by name."""

    blame = Blame.MACHINE

    def __init__(self, capability: str, found: str, hint: str) -> None:
        self.capability = capability
        self.found = found
        super().__init__(f"This machine lacks the capability '{capability}': {found}.", hint=hint)


class LockBusy(HarnessError):
    """Another run holds what several runs share for longer than it may be waited for."""

    blame = Blame.MACHINE


class SessionError(HarnessError):
    """A throwaway user session could not be made, entered or ended."""

    blame = Blame.MACHINE


class CacheError(HarnessError):
    """The folder for images and userlands can't be written to."""

    blame = Blame.MACHINE


class GuestError(HarnessError):
    """A guest kernel did not boot, hung, or ended before it had told the results of its tests."""

    blame = Blame.MACHINE


class CommandError(HarnessError):
    """A program ended with a status other than 0, or did not end in time (`status` is None)."""

    def __init__(
        self,
        command: Sequence[str],
        status: int | None,
        *,
        stdout: bytes = b"",
        stderr: bytes = b"",
        timeout_s: float | None = None,
        hint: str = "",
    ) -> None:
        self.command = tuple(command)
        self.status = status
        self.stdout = stdout
        self.stderr = stderr
        self.timeout_s = timeout_s
        super().__init__(
            f"The program '{self.command[0]}' {_ending(status, timeout_s)}.",
            hint=hint,
            evidence={
                "command": shlex.join(self.command),
                "stdout": stdout.decode(errors="replace"),
                "stderr": stderr.decode(errors="replace"),
            },
        )


class ImageError(HarnessError):
    """An image does not exist or can't be built."""

    blame = Blame.IMAGE


class UnitFailed(HarnessError):
    """A unit ended in the state `failed`, or where it must not; `properties` holds what systemd says of it."""

    blame = Blame.UNKNOWN

    def __init__(
        self,
        unit: str,
        properties: Mapping[str, object],
        *,
        evidence: Mapping[str, str],
        hint: str = "",
        blame: Blame | None = None,
    ) -> None:
        self.unit = unit
        self.properties = dict(properties)
        state = ", ".join(f"{key}={value}" for key, value in self.properties.items())
        super().__init__(f"The unit '{unit}' failed: {state}.", hint=hint, evidence=evidence, blame=blame)


class UnitRejected(HarnessError):
    """A generator made no unit of its file, or systemd did not load what it made."""

    blame = Blame.INPUT


class WaitTimeout(HarnessError):
    """Something awaited did not come; `seen` is the last thing seen instead."""

    def __init__(self, awaited: str, waited_s: float, seen: object) -> None:
        self.awaited = awaited
        self.waited_s = waited_s
        self.seen = seen
        super().__init__(f"Waited {waited_s:.1f} s for {awaited}; the last thing seen was '{seen}'.")


class ProbeFailed(HarnessError):
    """A client got no reply, or another one than the contract promises; `wrong` says so as a clause.

    `cold` is whether it was the first client of a service, so that no other would be answered.
    """

    blame = Blame.IMAGE

    def __init__(
        self,
        sentence: str,
        *,
        hint: str = "",
        evidence: Mapping[str, str] | None = None,
        blame: Blame | None = None,
        wrong: str = "",
        cold: bool = False,
    ) -> None:
        super().__init__(sentence, hint=hint, evidence=evidence, blame=blame)
        self.wrong: str = shown(wrong)
        self.cold = cold


class TimelineError(HarnessError):
    """The times of an activation can't be true together."""


class ClockStepped(HarnessError):
    """The machine's clock was set during a measurement; `moved_s` says by how much."""

    blame = Blame.MACHINE

    def __init__(self, moved_s: float) -> None:
        self.moved_s = moved_s
        super().__init__(
            f"The machine's clock was set by {moved_s * 1000:.1f} ms during an activation, so its times mean nothing.",
            hint="Measure again when the clock is in step; 'timedatectl' tells.",
        )


class GateError(HarnessError):
    """There is too little to give a verdict on."""

    blame = Blame.MACHINE


class BaselineFailed(HarnessError):
    """The baseline image does not do what its contract promises, so that nothing can be compared with it."""

    blame = Blame.INPUT


def _ending(status: int | None, timeout_s: float | None) -> str:
    if status is None:
        return f"did not end within {timeout_s:g} s" if timeout_s is not None else "did not end"
    if status < 0:
        return f"was killed by signal {-status}"
    if status == 127:
        return "could not be started (status 127: not found)"
    return f"ended with status {status}"


def tail(text: str, lines: int = SHOWN_LINES) -> str:
    """Return the last `lines` lines of `text`, saying how many were left out."""
    rows = text.rstrip("\n").split("\n")
    if len(rows) <= lines:
        return "\n".join(rows)
    return "\n".join([f"[{len(rows) - lines} lines left out]", *rows[-lines:]])


def middle(text: str, lines: int = SHOWN_LINES, longest: int = SHOWN_CHARACTERS) -> str:
    """Return the first and the last lines of `text`, and of its characters, saying how many were left out between."""
    rows = text.rstrip("\n").split("\n")
    if len(rows) > lines:
        first, last = (lines - 1) // 2, lines // 2
        rows = [*rows[:first], f"[{len(rows) - first - last} lines left out]", *rows[-last:]]
    shown = "\n".join(rows)
    if len(shown) <= longest:
        return shown
    half = longest // 2
    return f"{shown[:half]}[{len(shown) - 2 * half} characters left out]{shown[-half:]}"


def render(error: HarnessError) -> str:
    """Return the whole text of an error: sentence, evidence, hint, blame."""
    parts = [error.sentence]
    for title, text in error.evidence.items():
        if text.strip():
            parts.append(f"  {title}:")
            parts.extend(f"    {line}" for line in shown(tail(text, error.lines)).split("\n"))
    if error.hint:
        parts.append(f"Hint: {error.hint}")
    parts.append(f"[{error.blame.value}: {type(error).__name__}]")
    return "\n".join(parts)
