"""Marks of tests that are run by several activations, or fail by a bug that is known."""

from __future__ import annotations

import platform

import pytest

from harness.activation import activations
from harness.capabilities.table import Capabilities
from tests.helpers.runs import RED, run_inner

BY_ACTIVATIONS = """
import pytest

@pytest.mark.harness_activations
def test_all(harness_activation_name): pass

@pytest.mark.harness_activations("launcher", "unit")
def test_two(harness_activation_name): pass

@pytest.mark.harness_activations("launcher")
def test_launcher(harness_activation_name): pass

@pytest.mark.harness_activations
def test_without_one(): pass
"""


def test_a_test_by_all_activations(inner: pytest.Pytester) -> None:
    """Once for each that the machine is capable of, and for those of the mark."""
    inner.makepyfile(BY_ACTIVATIONS)
    run = run_inner(inner)
    possible = [name for name, way in activations().items() if all(map(Capabilities().has, way.needs))]
    expected = [*(f"test_all[{name}]" for name in possible), "test_two[launcher]", "test_two[unit]"]
    assert run.outcomes == dict.fromkeys([*expected, "test_launcher[launcher]", "test_without_one"], "passed")


def test_a_test_by_an_activation_that_was_not_asked_for(inner: pytest.Pytester) -> None:
    """It is deselected: nothing is lacking."""
    inner.makepyfile(BY_ACTIVATIONS)
    run = run_inner(inner, "--harness-activation=unit")
    assert run.outcomes == dict.fromkeys(["test_all[unit]", "test_two[unit]", "test_without_one"], "passed")
    assert "1 deselected" in run.output


def test_a_mark_with_a_mistake(inner: pytest.Pytester) -> None:
    """A name that no activation has would otherwise run nothing, for ever."""
    inner.makepyfile(
        "import pytest\n@pytest.mark.harness_activations('unti')\ndef test_one(harness_activation_name): pass\n"
    )
    run = run_inner(inner)
    assert run.status == pytest.ExitCode.USAGE_ERROR
    known = ", ".join(activations())
    assert f"\n@pytest.mark.harness_activations: unknown activation 'unti' (known: {known}).\n" in run.output
    assert "/pluggy/" not in run.output


KNOWN = """
import pytest

@pytest.mark.harness_known_bug("python", "1.0", "{version}", issue="https://example.org/1")
def test_fails(): assert False

@pytest.mark.harness_known_bug("python", "{version}", issue="https://example.org/1")
def test_passes(): pass

@pytest.mark.harness_known_bug("python", "1.0", issue="https://example.org/1")
def test_another_version(): assert False
"""


def test_a_known_bug(inner: pytest.Pytester) -> None:
    """It is expected in the versions in which it was seen, with its address; that it is gone there is an error."""
    inner.makepyfile(KNOWN.format(version=platform.python_version()))
    run = run_inner(inner, "-rx")
    assert run.status in RED
    assert run.outcomes == {"test_fails": "skipped", "test_passes": "failed", "test_another_version": "failed"}
    assert f"python {platform.python_version()}: https://example.org/1" in run.output
    assert "[XPASS(strict)]" in run.texts["test_passes"]
