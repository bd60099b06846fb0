"""The workflows, the action, the scripts and the tmt plan, as far as they can be checked without GitHub."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from harness.cli.main import sah
from tests.helpers.runs import REPOSITORY

WORKFLOWS = sorted((REPOSITORY / ".github/workflows").glob("*.yml"))
ACTIONS = sorted((REPOSITORY / ".github/actions").glob("*/action.yml"))
SCRIPTS = sorted(file for file in (REPOSITORY / ".ci").iterdir() if file.is_file())
SHELL = [file for file in SCRIPTS if "bash" in file.read_text(encoding="utf-8").splitlines()[0]]
SHELL.append(REPOSITORY / "tests/machines/machine.sh")
PLAN, TEST = REPOSITORY / "plans/suites.fmf", REPOSITORY / "suites/main.fmf"


def read(file: Path) -> dict[str, Any]:
    """Return a file of YAML; `on` stays a word (YAML 1.2)."""
    found: dict[str, Any] = YAML(typ="safe").load(file.read_text(encoding="utf-8"))
    return found


def jobs(file: Path) -> dict[str, Any]:
    """Return the jobs of a workflow."""
    found: dict[str, Any] = read(file)["jobs"]
    return found


def steps() -> list[tuple[str, dict[str, Any]]]:
    """Return all steps of all workflows and actions, each with its file's name."""
    found = [(file.name, step) for file in WORKFLOWS for job in jobs(file).values() for step in job.get("steps", [])]
    return found + [(file.parent.name, step) for file in ACTIONS for step in read(file)["runs"]["steps"]]


def check(*command: str) -> None:
    """Run a checker that tests install; what it says is the failure."""
    program = Path(sys.executable).with_name(command[0])
    found = os.fspath(program) if program.exists() else shutil.which(command[0])
    if found is None:
        pytest.fail(f"'{command[0]}' is not installed; it is in the dependency group 'tests'")
    ended = subprocess.run(
        [found, *command[1:]],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout


# -- checkers ---------------------------------------------------------------------------------------------------------


def test_workflows_fit_githubs_schema() -> None:
    check("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *map(os.fspath, WORKFLOWS))


def test_actions_fit_githubs_schema() -> None:
    check("check-jsonschema", "--builtin-schema", "vendor.github-actions", *map(os.fspath, ACTIONS))


def test_zizmor_finds_nothing() -> None:
    check("zizmor", "--offline", "--quiet", ".github")


def test_shellcheck_finds_nothing() -> None:
    assert SHELL
    check("shellcheck", *map(os.fspath, SHELL))


INJECTED = """
on: pull_request_target
jobs: {one: {runs-on: ubuntu-24.04, steps: [{run: "echo ${{ github.event.pull_request.title }}"}]}}
"""


@pytest.mark.parametrize(
    ("text", "command", "said"),
    [
        (INJECTED, ("zizmor", "--offline", "--quiet"), "template-injection"),
        ("on: push\njobs: []\n", ("check-jsonschema", "--builtin-schema", "vendor.github-workflows"), "jobs"),
        ("runs: {}\n", ("check-jsonschema", "--builtin-schema", "vendor.github-actions"), "runs"),
        ("#!/bin/bash\nrm $1\n", ("shellcheck",), "SC2086"),
    ],
)
def test_the_checkers_find_what_is_wrong(tmp_path: Path, text: str, command: tuple[str, ...], said: str) -> None:
    file = tmp_path / ".github/workflows/wrong.yml"
    file.parent.mkdir(parents=True)
    file.write_text(text, encoding="utf-8")
    with pytest.raises(AssertionError, match=said):
        check(*command, os.fspath(file))


# -- what the workflows promise ---------------------------------------------------------------------------------------


def test_the_final_job_needs_every_other() -> None:
    """It is the one required check, so a job that it does not need would be none."""
    found = jobs(REPOSITORY / ".github/workflows/ci.yml")
    assert set(found["all-passed"]["needs"]) == set(found) - {"all-passed"}
    assert found["all-passed"]["if"] == "always()"


@pytest.mark.parametrize(
    ("results", "status"),
    [
        (["success", "success"], 0),
        (["success", "failure"], 1),
        (["success", "skipped"], 1),
        (["cancelled"], 1),
        ([], 1),
    ],
)
def test_the_final_job_passes_only_where_all_passed(results: list[str], status: int) -> None:
    needs = {f"job{index}": {"result": result, "outputs": {}} for index, result in enumerate(results)}
    command = [sys.executable, os.fspath(REPOSITORY / ".ci/all-passed")]
    ended = subprocess.run(command, env={"NEEDS": json.dumps(needs)}, stdout=subprocess.DEVNULL, check=False)
    assert ended.returncode == status


def test_the_same_suites_run_on_a_machine_of_ones_own() -> None:
    """By a switch, and not for forks."""
    found = jobs(REPOSITORY / ".github/workflows/fedora.yml")
    assert found["machine"]["runs-on"] == ["self-hosted", "fedora"]
    assert "fork" in found["machine"]["if"]
    assert [step.get("run") for step in found["machine"]["steps"]][1] == ".ci/suites"
    triggers = read(REPOSITORY / ".github/workflows/fedora.yml")["on"]
    assert triggers["workflow_call"] == triggers["workflow_dispatch"]


def test_reports_come_out_whatever_happens() -> None:
    for job in jobs(REPOSITORY / ".github/workflows/fedora.yml").values():
        after = job["steps"][-2:]
        assert [step["if"] for step in after] == ["always()", "always()"]
        assert after[1]["with"]["path"] == "harness-artifacts/"


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_nothing_is_permitted_but_to_read(file: Path) -> None:
    assert read(file)["permissions"] == {}
    assert all(job["permissions"] == {"contents": "read"} for job in jobs(file).values())


def test_every_job_has_a_time_limit() -> None:
    for file in WORKFLOWS:
        assert all("timeout-minutes" in job for job in jobs(file).values() if "steps" in job), file.name


def test_foreign_actions_are_pinned_and_say_their_version() -> None:
    """By the full hash of a commit, the same wherever an action is used."""
    pins: dict[str, set[str]] = {}
    for file in WORKFLOWS:
        for line in file.read_text(encoding="utf-8").splitlines():
            if (found := re.search(r"uses: (?!\./)(\S+)@(.*)", line)) is not None:
                assert re.fullmatch(r"[0-9a-f]{40} # v\d+\.\d+\.\d+", found[2]), line
                pins.setdefault(found[1], set()).add(found[2])
    assert set(pins) == {"actions/checkout", "actions/upload-artifact", "lima-vm/lima-actions/setup"}
    assert all(len(versions) == 1 for versions in pins.values())


def test_no_expression_stands_in_a_script() -> None:
    """Inputs reach scripts through the environment."""
    for name, step in steps():
        assert "${{" not in step.get("run", ""), name


def test_the_example_for_other_repositories_fits(tmp_path: Path) -> None:
    """It is a workflow by GitHub's schema, has ten lines, and gives the action inputs that it has."""
    text = (REPOSITORY / "docs/ci.md").read_text(encoding="utf-8")
    found = re.search(r"## In your repository in ten lines\n\n((?:    .*\n)+)", text)
    assert found is not None
    assert len(found[1].splitlines()) == 10
    file = tmp_path / "gate.yml"
    file.write_text(re.sub("(?m)^    ", "", found[1]), encoding="utf-8")
    check("check-jsonschema", "--builtin-schema", "vendor.github-workflows", os.fspath(file))
    [job] = jobs(file).values()
    action = read(REPOSITORY / ".github/actions/gate/action.yml")
    given = job["steps"][-1]["with"]
    assert job["steps"][-1]["uses"].endswith("/.github/actions/gate@vN")
    assert set(given) <= set(action["inputs"])
    assert {name for name, one in action["inputs"].items() if one.get("required")} <= set(given)
    assert all(f"`{name}`" in text for name in [*action["inputs"], *action["outputs"]])


# -- every command exists ---------------------------------------------------------------------------------------------


def test_a_workflow_has_no_logic_of_its_own() -> None:
    """Each of its steps is one line that runs a script or the action's program."""
    for name, step in steps():
        if line := step.get("run"):
            program = shlex.split(line)[0]
            if program == "python3":
                assert line == 'python3 "$GITHUB_ACTION_PATH/gate.py"'
            else:
                assert os.access(REPOSITORY / program, os.X_OK), f"{name}: {line}"
            assert not set(line) & set(";&|\n"), f"{name}: {line}"


def texts() -> list[tuple[str, str]]:
    """Return every file that runs commands: its name, and its lines without comments."""
    files = [*SHELL, *WORKFLOWS, TEST]
    found = [(file.name, file.read_text(encoding="utf-8").replace("\\\n", " ")) for file in files]
    return [(name, re.sub(r"(?m)^\s*#.*$", "", text)) for name, text in found]


def test_every_script_that_is_run_is_there() -> None:
    names = {file.name for file in SCRIPTS}
    used = {found for _, text in texts() for found in re.findall(r"\.ci/([\w-]+)", text)}
    assert used <= names
    # `run` is for people; the action calls `prepare`.
    assert names - used == {"run"}


def test_every_tox_environment_that_is_run_is_there() -> None:
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(REPOSITORY / "tox.ini")
    there = {section.removeprefix("testenv:") for section in tox.sections() if section.startswith("testenv:")}
    used = {name for _, text in texts() for name in re.findall(r"(?:\.ci/tox|tox -e) ([a-z]+)", text)}
    assert used == there


def test_every_harness_command_that_is_run_is_there() -> None:
    """With its options, as the parser knows them."""
    program = (REPOSITORY / ".github/actions/gate/gate.py").read_text(encoding="utf-8")
    lines = [found for _, text in texts() for found in re.findall(r"-m harness ([^|\n&]+)", text)]
    assert len(lines) >= 2
    for line in lines:
        words = shlex.split(line.split("||")[0])
        assert sah().parse_args([word for word in words if word]).run
    assert sah().parse_args(["setup"]).run
    assert '"harness", "setup"' in program
    assert sah().parse_args(["report", "x", "--html=a", "--markdown=b", "--junit=c"]).run


def test_every_option_of_the_plugin_that_is_given_is_there(pytestconfig: pytest.Config) -> None:
    program = (REPOSITORY / ".github/actions/gate/gate.py").read_text(encoding="utf-8")
    known = {"--harness-strict", "--no-harness-strict"} | {
        f"--{name.replace('_', '-')}" for name in vars(pytestconfig.option) if name.startswith("harness_")
    }
    for text in [program, *(text for _, text in texts())]:
        assert set(re.findall(r"--(?:no-)?harness-[a-z-]+", text)) <= known


# -- scripts that run here --------------------------------------------------------------------------------------------


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder of programs that record how they are called; nothing else but the shell is found."""
    for name in ("sudo", "dnf", "modprobe", "loginctl", "limactl"):
        file = tmp_path / name
        status = 1 if name == "modprobe" else 0
        more = 'shift; exec "$@"' if name == "sudo" else f"exit {status}"
        file.write_text(f'#!/bin/bash\necho "{name} $*" >>"{tmp_path}/calls"\n{more}\n', encoding="utf-8")
        file.chmod(0o755)
    return tmp_path


def run(machine: Path, script: str, *arguments: str, uid: int = 0, **changes: str) -> tuple[int, list[str], str]:
    """Run a script of CI with those programs first, as if by `uid`; return its status, their calls, its words."""
    own = machine / "id"
    own.write_text(f'#!/bin/bash\n[ "$1" = -un ] && echo somebody || echo {uid}\n', encoding="utf-8")
    own.chmod(0o755)
    environment = {"PATH": f"{machine}:/usr/bin:/bin", **changes}
    ended = subprocess.run(
        [os.fspath(REPOSITORY / ".ci" / script), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    calls = machine / "calls"
    return ended.returncode, calls.read_text(encoding="utf-8").splitlines() if calls.exists() else [], ended.stdout


def test_prepare_on_fedora_brings_the_package_of_the_module(machine: Path) -> None:
    """As an ordinary user: by sudo, which asks nobody; nothing that fails is an error yet."""
    status, calls, _ = run(machine, "prepare", uid=1000)
    assert status == 0
    package = f"kernel-modules-{os.uname().release}"
    assert calls == [
        *("sudo -n loginctl enable-linger somebody", "loginctl enable-linger somebody"),
        *("sudo -n modprobe vsock_loopback", "modprobe vsock_loopback"),
        *(f"sudo -n dnf install --assumeyes {package}", f"dnf install --assumeyes {package}"),
        *("sudo -n modprobe vsock_loopback", "modprobe vsock_loopback"),
    ]


def test_prepare_opens_kvm_and_kernels_of_githubs_own_machines_only(machine: Path) -> None:
    own = machine / "chmod"
    own.write_text(f'#!/bin/bash\necho "chmod $1" >>"{machine}/calls"\n', encoding="utf-8")
    own.chmod(0o755)
    for environment, expected in (("self-hosted", []), ("github-hosted", ["chmod a+rw", "chmod a+r"])):
        (machine / "calls").unlink(missing_ok=True)
        _, calls, _ = run(machine, "prepare", RUNNER_ENVIRONMENT=environment)
        assert [call for call in calls if call.startswith("chmod")] == expected


def test_prepare_installs_nothing_where_the_module_loads(machine: Path) -> None:
    (machine / "modprobe").write_text(f'#!/bin/bash\necho "modprobe $*" >>"{machine}/calls"\n', encoding="utf-8")
    assert run(machine, "prepare")[:2] == (0, ["modprobe vsock_loopback"])


def test_prepare_without_any_right_says_what_is_not_there(machine: Path) -> None:
    (machine / "sudo").write_text("#!/bin/bash\nexit 1\n", encoding="utf-8")
    (machine / "dnf").unlink()
    status, _, said = run(machine, "prepare", uid=1000)
    assert status == 0
    assert "prepare: no lingering systemd --user" in said


def test_the_virtual_machine_is_deleted_whatever_happens(machine: Path) -> None:
    """Here it can't even be started."""
    recorded = (machine / "limactl").read_text(encoding="utf-8").replace("exit 0", '[ "$1" = delete ]')
    (machine / "limactl").write_text(recorded, encoding="utf-8")
    status, calls, _ = run(machine, "fedora-vm", "experimental/fedora-rawhide")
    assert status == 1
    start, delete = calls
    vm = re.search(r"--name=(harness-\d+) ", start)
    assert vm is not None
    assert start.endswith("template:experimental/fedora-rawhide")
    assert delete == f"limactl delete --force {vm[1]}"


def test_the_virtual_machines_reports_come_out_and_its_status_too(machine: Path, tmp_path: Path) -> None:
    """A recorded limactl plays the suites that fail and leave a report."""
    inside = tmp_path / "inside"
    inside.mkdir()
    folder = f"harness-artifacts-{os.getpid()}"
    script = f"""#!/bin/bash
    echo "limactl $*" >>"{machine}/calls"
    case "$*" in
      *--extract*) tar --extract --directory="{inside}";;
      *--create*) tar --create --directory="{inside}" "{folder}";;
      *.ci/suites*) mkdir -p "{inside}/{folder}"; echo found >"{inside}/{folder}/results.json"; exit 7;;
    esac
    """
    (machine / "limactl").write_text(script, encoding="utf-8")
    out = REPOSITORY / folder
    try:
        status, calls, said = run(machine, "fedora-vm", "fedora", folder)
        assert (status, (out / "results.json").read_text(encoding="utf-8")) == (7, "found\n"), said
    finally:
        shutil.rmtree(out, ignore_errors=True)
    assert os.access(inside / ".ci/suites", os.X_OK)
    assert calls[-1].startswith("limactl delete --force")
    assert any(f"env CI=true /var/tmp/harness/.ci/suites /var/tmp/harness/{folder}" in call for call in calls)


def test_the_summary_goes_to_the_jobs(machine: Path, tmp_path: Path) -> None:
    job = tmp_path / "job.md"
    assert run(machine, "summary", str(tmp_path), GITHUB_STEP_SUMMARY=str(job))[0] == 0
    assert job.read_text(encoding="utf-8") == "No test was run; the log tells why.\n"
    (tmp_path / "summary.md").write_text("## passed\n", encoding="utf-8")
    assert run(machine, "summary", str(tmp_path))[2] == "## passed\n"


# -- tmt --------------------------------------------------------------------------------------------------------------


def test_the_plan_runs_the_same_script() -> None:
    """`tmt lint` is for who has tmt; see docs/ci.md."""
    assert (REPOSITORY / ".fmf/version").read_text(encoding="utf-8") == "1\n"
    plan, test = read(PLAN), read(TEST)
    assert plan["discover"] == {"how": "fmf"}
    assert test["test"] == '.ci/suites "$TMT_TEST_DATA" $PYTEST_ARGUMENTS'
    assert test["path"] == "/"
