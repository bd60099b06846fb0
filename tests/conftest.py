"""What the harness's own tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.contract import load
from harness.core.cache import FOLDER_VARIABLE
from harness.images.store import Image
from harness.runtime.runtime import Runtime
from tests.helpers.runs import REPOSITORY, environment
from tests.machines.summary import pytest_terminal_summary

pytest_plugins = ["pytester"]

__all__ = ["pytest_terminal_summary"]


@pytest.fixture(scope="session")
def built(harness_runtime: Runtime) -> Callable[[str | Path], Image]:
    """Build the image of a contract, named by its folder, unless that was done: outside the tests' time limits."""
    return lambda folder: harness_runtime.store.image(load(REPOSITORY / folder), harness_runtime.base)


@pytest.fixture
def echo_image(built: Callable[[str], Image]) -> Image:
    """The image of the echo server."""
    return built("containers/echo")


@pytest.fixture
def inner(pytester: pytest.Pytester, harness_runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder for the files of an inner pytest, which finds the plugin and the images and treats warnings as errors.

    Run it with `-p harness.plugin`, which is how a project without the package's entry point loads it.
    """
    for name in set(os.environ) - set(environment()):
        monkeypatch.delenv(name)
    for name, value in environment().items():
        if name != "HOME":
            monkeypatch.setenv(name, value)
    # The pytester's HOME is a folder of its own.
    monkeypatch.setenv(FOLDER_VARIABLE, os.fspath(harness_runtime.store.folder))
    return pytester
