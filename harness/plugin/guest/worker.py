"""The plugin of the run inside a guest: run the tests that the run outside lists, and tell each result at once.

Loaded by `-p harness.plugin.guest.worker`; the variable HARNESS_GUEST_FOLDER names the exchange folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import pytest

from harness.contract.reference import ImageReference
from harness.core.cache import default_folder
from harness.core.errors import ImageError
from harness.core.userland import HOST, Userland
from harness.guest.engines.base import FOLDER_VARIABLE, USERLAND_VARIABLE
from harness.images import fetching
from harness.images import store as image_store
from harness.images.bases import Base
from harness.images.store import Image, ImageStore

#: What the run outside writes: the tests, why images could not be built, and what bases are made from outside.
TESTS_FILE, UNBUILT_FILE, BASES_FILE = "tests.json", "unbuilt.json", "bases.json"

#: What this run writes: one JSON object per line, `{"start": ID}` or `{"id": ID, "report": ...}`.
REPORTS_FILE = "reports.jsonl"


def folder() -> Path | None:
    """Return the exchange folder where this process runs in a guest that the harness has booted, else None."""
    name = os.environ.get(FOLDER_VARIABLE)
    return Path(name) if name else None


def userland() -> Userland:
    """Return what is the root of the machine that this process runs on: a guest may have booted another's."""
    name = os.environ.get(USERLAND_VARIABLE)
    return Userland(name) if name else HOST


class ReadOnlyStore(ImageStore):
    """The machine's store as a guest sees it: nothing is built, fetched or written."""

    def __init__(self, unbuilt: Mapping[str, str], recipes: Mapping[str, str]) -> None:
        super().__init__(default_folder())
        #: Base -> hash of what it is made from outside, where another release of the distribution may be.
        self._recipes = recipes
        #: Name of a contract -> why its image could not be built outside.
        self._unbuilt = unbuilt

    def built(self, name: str, file: Path, base: Base) -> Image:
        """Return an image as the run outside has built it."""
        self._refuse(name)
        foundation = self._there(f"base-{base}", self.find(f"base-{base}", self._recipes[base]))
        return self._there(name, self.find(name, image_store.source_hash(file, foundation.id)))

    def existing(self, name: str, reference: str, folder: Path = Path()) -> Image:
        """Return an image as the run outside has fetched it."""
        self._refuse(name)
        meant = ImageReference.parse(reference).below(folder)
        return self._there(name, self.find(name, fetching.source_of(meant)))

    def _refuse(self, name: str) -> None:
        # A contract's images are made together, so that of its client can be the one that was not.
        if why := self._unbuilt.get(name.removesuffix(image_store.CLIENT)):
            raise ImageError(f"The image of '{name}' could not be made before the guest started:\n{why}")

    def _there(self, name: str, image: Image | None) -> Image:
        if image is None:
            raise ImageError(
                f"The image of '{name}' is not in the store '{self.folder}', and a guest builds none.",
                hint="Build it with 'python -m harness images build'.",
            )
        return image


def store() -> ImageStore | None:
    """Return the store for a run inside a guest, None outside."""
    exchange = folder()
    if exchange is None:
        return None
    told = [json.loads((exchange / name).read_text(encoding="utf-8")) for name in (UNBUILT_FILE, BASES_FILE)]
    return ReadOnlyStore(*told)


class Teller:
    """Selects the tests and tells their results."""

    def __init__(self, config: pytest.Config, exchange: Path, file: TextIO) -> None:
        self._config = config
        self._wanted: list[str] = json.loads((exchange / TESTS_FILE).read_text(encoding="utf-8"))["tests"]
        self._file = file

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep the tests that the run outside lists, in its order."""
        place = {name: index for index, name in enumerate(self._wanted)}
        if others := [item for item in items if item.nodeid not in place]:
            config.hook.pytest_deselected(items=others)
        items[:] = sorted((item for item in items if item.nodeid in place), key=lambda item: place[item.nodeid])

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Tell that a test begins, which is progress."""
        self._tell({"start": nodeid})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Tell a result."""
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._tell({"id": report.nodeid, "report": data})

    def _tell(self, message: dict[str, Any]) -> None:
        self._file.write(json.dumps(message, default=str) + "\n")
        self._file.flush()


def pytest_configure(config: pytest.Config) -> None:
    """Tell results where there is somebody to tell."""
    exchange = folder()
    if exchange is None:
        raise pytest.UsageError(f"harness.plugin.guest.worker is for runs in a guest, where {FOLDER_VARIABLE} is set.")
    file = (exchange / REPORTS_FILE).open("a", encoding="utf-8")
    config.add_cleanup(file.close)
    config.pluginmanager.register(Teller(config, exchange, file), "harness-guest-teller")
