"""results.json: what a run found, versioned; the report, in every view, is made of it alone.

Times are in the unit that a name ends in: `_s` seconds, `_ms` milliseconds. docs/results.schema.json is the same as a
JSON Schema.
"""

from __future__ import annotations

import json
import os
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from harness.core.errors import UsageError
from harness.core.text import shown

#: The version of the format that this harness writes and reads.
SCHEMA: Literal[1] = 1

#: How a results file says whose it is.
TOOL: Literal["socket-activation-harness"] = "socket-activation-harness"

#: The name of the file in the folder of artifacts.
FILE_NAME = "results.json"


class Outcome(StrEnum):
    """How a test ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    #: A fixture failed, before or after the test.
    ERROR = "error"


class Role(StrEnum):
    """Which side of a comparison an image is on."""

    CANDIDATE = "candidate"
    BASELINE = "baseline"


class Kind(StrEnum):
    """What a sample measured: a client that woke the service, or one that met it running."""

    COLD = "cold"
    WARM = "warm"


class Verdict(StrEnum):
    """What the gate says."""

    PASS = "pass"  # noqa: S105 -- no password
    REGRESSION = "regression"
    INCONCLUSIVE = "inconclusive"


#: What a stranger may have written, fit for every view: of another's file as well.
Text = Annotated[str, Field(max_length=1_000_000), AfterValidator(shown)]
NotNegative = Annotated[FiniteFloat, Field(ge=0)]


class Record(BaseModel):
    """A part of the file: unknown keys are refused, values are never converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Userland(Record):
    """Whose systemd and podman sessions had, see `harness.core.userland`."""

    #: Program -> version.
    versions: dict[Text, Text]
    #: Activation that the userland can't do and nobody asked for -> what is lacking.
    left_out: dict[Text, Text] = Field(default_factory=dict)


class Environment(Record):
    """Where a run took place."""

    kernel: Text
    #: Machine hardware name, as `uname -m` prints it.
    machine: Text
    cpus: Annotated[int, Field(ge=1)]
    #: Program -> version, of all that a reply passes through, in the first userland.
    versions: dict[Text, Text]
    #: Name -> userland, of those that the run was for.
    userlands: dict[Text, Userland] = Field(default_factory=dict)
    #: What images were built on.
    base: Text
    #: The guest kernel that stood in for a missing capability; empty where none did.
    guest: Text = ""
    #: Whether a missing capability failed.
    strict: bool


class Case(Record):
    """What a test or a measurement was about."""

    #: Whose systemd and podman; see `harness.core.userland`.
    userland: Text = "host"
    contract: Text
    activation: Text
    transport: Text


class Test(Record):
    """One test."""

    #: pytest is not to take this for a class of tests.
    __test__: ClassVar[bool] = False

    #: As pytest names it.
    id: Text
    outcome: Outcome
    duration_s: NotNegative
    #: None for a test that is not about one case.
    case: Case | None = None
    #: What a person reads of a test that did not pass.
    message: Text = ""
    #: Who has to act, see `harness.core.errors.Blame`; empty where nobody knows.
    blame: Text = ""
    #: Folder with the failure bundle, relative to the file; empty where there is none.
    bundle: Text = ""
    #: The sentence of the tutorial that the test proves; empty for most.
    claim: Text = ""
    #: The promise of the battery that was tried; empty for all other tests.
    promise: Text = ""
    #: How it was broken, as a clause; empty where it was kept.
    broken: Text = ""
    #: Why the contract does not make it; empty where it does.
    waived: Text = ""
    #: Whether not even the first client was answered.
    cold: bool = False


class Sample(Record):
    """One activation or one warm request."""

    #: Mark -> milliseconds since the client connected, in the order of time; see `harness.timing.timeline.Mark`.
    at_ms: dict[Text, NotNegative]
    #: When the unit became active, in the same milliseconds; None where no unit did.
    ready_ms: NotNegative | None = None


class Series(Record):
    """The samples of one image in one case."""

    case: Case
    kind: Kind
    role: Role
    #: The image's name and its id.
    image: Text
    image_id: Text
    samples: tuple[Sample, ...]


class PhaseComparison(Record):
    """One phase of the activation in both images."""

    #: The marks it lies between, such as 'exec -> reply'.
    phase: Text
    candidate_ms: NotNegative
    baseline_ms: NotNegative
    #: Probability of such a difference, or a larger one, between two series of one image (Mann-Whitney U).
    p_slower: Annotated[FiniteFloat, Field(ge=0, le=1)]


class Comparison(Record):
    """The gate's verdict on one image in one case."""

    case: Case
    kind: Kind
    verdict: Verdict
    #: Samples of each image.
    count: Annotated[int, Field(ge=2)]
    candidate_ms: NotNegative
    baseline_ms: NotNegative
    #: How many times as long the candidate takes, see `harness.timing.statistics.ratio`, with its interval: the
    #: verdict's own, and not exactly the ratio of the two medians.
    ratio: NotNegative
    low: NotNegative
    high: NotNegative
    confidence: Annotated[FiniteFloat, Field(gt=0, lt=1)]
    p_slower: Annotated[FiniteFloat, Field(ge=0, le=1)]
    max_slowdown: NotNegative
    phases: tuple[PhaseComparison, ...] = ()
    #: The phase that grew most; empty where none grew.
    grown: Text = ""


class BudgetCheck(Record):
    """What a contract allows against what was measured."""

    case: Case
    kind: Kind
    limit_ms: NotNegative
    median_ms: NotNegative
    count: Annotated[int, Field(ge=1)]
    within: bool


class Results(Record):
    """The whole file."""

    schema_version: Annotated[Literal[1], Field(alias="schema")] = SCHEMA
    tool: Literal["socket-activation-harness"] = TOOL
    #: Version of the harness.
    version: Text
    #: When the run began, ISO 8601 with its zone.
    started: Text
    duration_s: NotNegative
    environment: Environment
    tests: tuple[Test, ...] = ()
    series: tuple[Series, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    budgets: tuple[BudgetCheck, ...] = ()

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


def json_schema() -> str:
    """Return the format as a JSON Schema."""
    return json.dumps(Results.model_json_schema(by_alias=True), indent=2) + "\n"


def write(results: Results, file: Path) -> None:
    """Write the file as a whole or not at all; raise UsageError where it can't be written."""
    text = results.model_dump_json(by_alias=True, indent=1)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(f"{text}\n")
            Path(name).replace(file)
        except BaseException:
            Path(name).unlink()
            raise
    except OSError as error:
        raise UsageError(f"The results '{file}' can't be written: {error.strerror}.") from None


def read(file: Path) -> Results:
    """Read a results file; raise UsageError for one that is missing, cut off, of another version or another tool."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"The results '{file}' can't be read: {reason}.") from None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"The results '{file}' are cut off or no JSON: {error}.", hint="Run the suites again to write them anew."
        ) from None
    if not isinstance(found, dict) or found.get("tool") != TOOL:
        raise UsageError(f"The file '{file}' holds no results of {TOOL}.")
    if found.get("schema") != SCHEMA:
        raise UsageError(
            f"The results '{file}' have the version {found.get('schema')!r}; this harness reads {SCHEMA}.",
            hint="Read them with the harness that wrote them, or run the suites again.",
        )
    try:
        return Results.model_validate_json(text)
    except ValidationError as error:
        mistakes = "\n".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:20])
        raise UsageError(f"The results '{file}' are damaged.", evidence={"mistakes": mistakes}) from None
