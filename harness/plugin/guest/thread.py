"""The one guest of a test run, from outside: build the images, boot, watch; all in a thread beside the tests."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import GuestError, HarnessError
from harness.guest.engines.base import Boot, Engine
from harness.guest.guest import Guest, Limits
from harness.images import bases
from harness.images.bases import Base
from harness.plugin.guest import worker

#: Longest time in a guest without a test that begins or ends, in seconds, for a time scale of 1; a contract's own
#: limits end every test long before.
STALL_LIMIT_S = 60.0

#: What the owner writes for those who wait: how the guest failed, and what it is at.
FAILED_FILE, PHASE_FILE = "failed.json", "phase"

#: Longest end of the thread, in seconds, where it is not just building an image.
_JOIN_LIMIT_S = 5.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to run in the guest."""

    tests: tuple[str, ...]
    #: The files that the tests are in.
    files: tuple[str, ...]
    #: Contracts whose images the tests may need.
    contracts: tuple[str, ...]

    def write(self, folder: Path) -> None:
        """Write it for the owner and for the run inside; several workers may do so at the same time."""
        text = {"tests": self.tests, "files": self.files, "contracts": self.contracts}
        publish(folder / worker.TESTS_FILE, json.dumps(text))

    @classmethod
    def read(cls, folder: Path) -> Wanted | None:
        """Return what was written, None where nothing is to run."""
        try:
            found = json.loads((folder / worker.TESTS_FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return cls(tuple(found["tests"]), tuple(found["files"]), tuple(found["contracts"]))


def publish(file: Path, text: str) -> None:
    """Write a file that appears with its whole text."""
    draft = file.with_name(f"{file.name}.{os.getpid()}.{threading.get_ident()}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(file)


class Owner:
    """The exchange folder of a run, and its guest, which starts when it is known what is to run in it."""

    def __init__(
        self,
        engine: Engine,
        build: Callable[[str], object],
        job: Callable[[Wanted, Path], Boot],
        time_scale: float,
    ) -> None:
        """Make the folder; `build` makes the image of a contract, `job` says what to boot and for what."""
        self.guest = Guest()
        self._engine = engine
        self._build = build
        self._job = job
        self._time_scale = time_scale
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, once, with what `Wanted` names; return at once."""
        if self._thread is None and (wanted := Wanted.read(self.guest.folder)):
            self._thread = threading.Thread(target=self._run, args=(wanted,), name="harness-guest", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Let nobody wait any longer."""
        if not self._stop.is_set():
            self._stop.set()
            self._fail(GuestError("The guest was not waited for, since the run ends."))

    def close(self) -> None:
        """End the guest and remove the folder."""
        self.stop()
        if self._thread:
            self._thread.join(_JOIN_LIMIT_S)
        self.guest.close()

    # -- in the thread ------------------------------------------------------------------------------------------

    def _run(self, wanted: Wanted) -> None:
        try:
            self._prepare(wanted)
            self._phase("waits for what it is to boot with")
            boot = self._job(wanted, self.guest.folder)
            self._phase("boots")
            self.guest.boot(self._engine, boot)
            boot_limit_s = self._engine.boot_limit_s * (boot.system.boot_factor if boot.system else 1)
            limits = Limits(boot_limit_s, STALL_LIMIT_S * self._time_scale)
            self.guest.watch(limits, self._progress, self._stop.is_set)
        except HarnessError as error:
            self._fail(error)
        except BaseException as error:  # whoever waits must hear of it, whatever it is
            self._fail(HarnessError(f"The guest's owner failed: {type(error).__name__}: {error}."))

    def _prepare(self, wanted: Wanted) -> None:
        """Make the images outside; what can't be made is an error of the tests that need it, and of no other."""
        unbuilt = {}
        for name in wanted.contracts:
            self._phase(f"waits for the image '{name}'")
            try:
                self._build(name)
            except HarnessError as error:
                unbuilt[name] = str(error)
        publish(self.guest.folder / worker.UNBUILT_FILE, json.dumps(unbuilt))
        publish(self.guest.folder / worker.BASES_FILE, json.dumps({base: bases.recipe(base) for base in Base}))

    def _progress(self) -> int:
        file = self.guest.folder / worker.REPORTS_FILE
        return file.stat().st_size if file.exists() else -1

    def _phase(self, text: str) -> None:
        publish(self.guest.folder / PHASE_FILE, text)

    def _fail(self, error: HarnessError) -> None:
        known = {"sentence": error.sentence, "hint": error.hint, "evidence": error.evidence}
        try:
            publish(self.guest.folder / FAILED_FILE, json.dumps(known))
        except OSError:
            return  # the folder has gone, and with it everybody who could wait
