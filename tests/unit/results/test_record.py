"""results.json: what is written is read again, damage is refused with its reason, nothing is half written."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from harness.core.errors import UsageError
from harness.results import record
from harness.results.record import Results
from tests.helpers import samples
from tests.helpers.runs import REPOSITORY

SCHEMA = REPOSITORY / "docs/results.schema.json"

#: Reads the file, or damages what it holds.
Damage = Callable[[dict[str, Any]], object]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A results file with everything in it."""
    file = tmp_path / record.FILE_NAME
    record.write(samples.results(), file)
    return file


# --- the way there and back -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [samples.results, samples.hostile, samples.empty])
def test_what_is_written_is_read_and_fits_the_schema(make: Callable[[], Results], tmp_path: Path) -> None:
    results = make()
    file = tmp_path / "new/folder/results.json"
    record.write(results, file)
    assert record.read(file) == results
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(json.loads(file.read_text(encoding="utf-8")))


def test_the_schema_in_the_docs_is_current() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == record.json_schema(), "write it again as docs/report.md says"


def test_the_schema_refuses_what_the_harness_refuses(file: Path) -> None:
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
    whole = json.loads(file.read_text(encoding="utf-8"))
    changes: tuple[dict[str, object], ...] = (
        {"more": 1},
        {"schema": 2},
        {"tool": "other"},
        {"duration_s": -1},
        {"tests": [{}]},
    )
    for change in changes:
        assert not validator.is_valid(whole | change), change


# --- damage -----------------------------------------------------------------------------------------------------------


def refused(file: Path) -> UsageError:
    """Return the error with which the file is refused; it names the file."""
    with pytest.raises(UsageError) as caught:
        record.read(file)
    assert f"'{file}'" in caught.value.sentence
    return caught.value


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "results.json").sentence


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert "Is a directory" in refused(tmp_path).sentence


def test_bytes_that_are_no_text(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"echo", b"ech\xff"))
    assert "it is no text" in refused(file).sentence


def test_a_file_cut_off_at_any_byte(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    record.write(samples.empty(), file)
    whole = file.read_bytes()
    assert whole.endswith(b"}\n")
    for end in range(len(whole) - 1):
        file.write_bytes(whole[:end])
        assert "cut off or no JSON" in refused(file).sentence, end


def test_brackets_without_end(file: Path) -> None:
    file.write_text("[" * 200_000, encoding="utf-8")
    assert "cut off or no JSON" in refused(file).sentence


@pytest.mark.parametrize("text", ["[]", "null", '"results"', '{"tool": "other"}', '{"schema": 1}', "{}"])
def test_what_another_tool_wrote(text: str, file: Path) -> None:
    file.write_text(text, encoding="utf-8")
    assert "holds no results of socket-activation-harness" in refused(file).sentence


@pytest.mark.parametrize("version", [0, 2, "1", None, [1]])
def test_another_version(version: object, file: Path) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), "schema": version}), encoding="utf-8")
    error = refused(file)
    assert f"the version {version!r}; this harness reads 1" in error.sentence
    assert "harness that wrote them" in error.hint


def _cold(found: dict[str, Any]) -> dict[str, Any]:
    sample: dict[str, Any] = found["series"][0]["samples"][0]
    return sample


@pytest.mark.parametrize(
    ("damage", "mistake"),
    [
        (lambda found: found.update(more=1), "more: Extra inputs"),
        (lambda found: found["tests"][0].update(more=1), "tests.0.more: Extra inputs"),
        (lambda found: found.pop("environment"), "environment: Field required"),
        (lambda found: found.update(duration_s=-0.1), "duration_s: Input should be greater than or equal to 0"),
        (lambda found: found.update(duration_s="1"), "duration_s: Input should be a valid number"),
        (lambda found: found.update(duration_s=float("nan")), "duration_s: Input should be a finite number"),
        (lambda found: _cold(found)["at_ms"].update(end=float("inf")), "at_ms.end: Input should be a finite number"),
        (lambda found: _cold(found)["at_ms"].update(end=-1), "at_ms.end: Input should be greater"),
        (lambda found: _cold(found).update(ready_ms=True), "ready_ms: Input should be a valid number"),
        (lambda found: found["tests"][0].update(outcome="fine"), "tests.0.outcome: Input should be 'passed'"),
        (lambda found: found["comparisons"][0].update(p_slower=2), "p_slower: Input should be less than or equal to 1"),
        (lambda found: found["comparisons"][0].update(count=1), "count: Input should be greater than or equal to 2"),
        (lambda found: found["environment"].update(cpus=1.5), "cpus: Input should be a valid integer"),
        (lambda found: found.update(tests={}), "tests: Input should be a valid array"),
        (lambda found: found["tests"][0].update(id="x" * 1_000_001), "id: String should have at most 1000000"),
    ],
)
def test_a_damaged_value_is_named(damage: Damage, mistake: str, file: Path) -> None:
    found = json.loads(file.read_text(encoding="utf-8"))
    damage(found)
    file.write_text(json.dumps(found), encoding="utf-8")
    error = refused(file)
    assert "are damaged" in error.sentence
    assert mistake in error.evidence["mistakes"]


def test_all_mistakes_at_once(file: Path) -> None:
    found = json.loads(file.read_text(encoding="utf-8"))
    found.update(duration_s=-1, more=1)
    found["tests"][3]["outcome"] = "fine"
    file.write_text(json.dumps(found), encoding="utf-8")
    assert len(refused(file).evidence["mistakes"].splitlines()) == 3


# --- writing ----------------------------------------------------------------------------------------------------------


def test_a_file_is_replaced_as_a_whole(file: Path) -> None:
    """Read while another thread writes: there is always one of the two, and nothing is left beside it."""
    texts = {file.read_text(encoding="utf-8")}
    record.write(samples.empty(), file)
    texts.add(file.read_text(encoding="utf-8"))
    done = threading.Event()

    def write() -> None:
        for results in (samples.results(), samples.empty()) * 10:
            record.write(results, file)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = 0
    while not done.is_set() or not seen:
        assert file.read_text(encoding="utf-8") in texts
        seen += 1
    writer.join()
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("where", ["folder", "file/results.json", "/proc/results.json"])
def test_what_cannot_be_written_leaves_nothing(where: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    before = sorted(os.fspath(path) for path in tmp_path.rglob("*"))
    with pytest.raises(UsageError) as caught:
        record.write(samples.empty(), tmp_path / where)
    assert "can't be written" in caught.value.sentence
    assert sorted(os.fspath(path) for path in tmp_path.rglob("*")) == before


def test_a_write_that_breaks_off_keeps_the_old_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()

    def full(_self: Path, _target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UsageError, match="No space left on device"):
        record.write(samples.empty(), file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]
