"""Negative controls of suites/test_performance.py: where there is no difference, what claims one is red."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.images.store import Image
from tests.helpers.controls import BROKEN, Control, assert_has
from tests.helpers.runs import run_pytest
from tests.helpers.sessions import isolated

SUITE = "suites/test_performance.py"
NETWORK = f"{SUITE}::test_faster_than_a_published_port"
START = f"{SUITE}::test_an_explicit_start_takes_the_delay_away"


def in_the_machines_network(network: str, port: int) -> dict[str, str]:
    """Return the rewrites that take slirp4netns away from one of the containers that listen by themselves."""
    end = f"\nExecStop=podman stop --ignore wire-{port}"
    return {
        f" --network={network} ": " --network=host ",
        f" --publish=127.0.0.1:{port}:3000": "",
        f" 3000{end}": f" {port}{end}",
    }


CONTROLS = {
    "the traffic does not pass through slirp4netns": Control(
        NETWORK,
        (r"carries less than 1\.5 times what goes through slirp4netns: inherited: \d+ MB/s, \d+ us per round trip; ",),
        rewrites=in_the_machines_network("slirp4netns:port_handler=slirp4netns", 3002),
        requires=("slirp4netns",),
    ),
    "no port is published": Control(
        NETWORK,
        (r"a round trip over a published port takes less than 1\.25 times one over the inherited socket: inherited: ",),
        rewrites=in_the_machines_network("slirp4netns", 3003),
        requires=("slirp4netns",),
    ),
    "the program is slower than any network": Control(
        NETWORK,
        (r"a round trip through slirp4netns takes less than 1\.5 times one over the inherited socket: ",),
        rewrites={
            "connection.sendall(buffer[:count])": "count > 99 or signal.sigtimedwait([], 0.001); "
            "connection.sendall(buffer[:count])"
        },
        requires=("slirp4netns",),
    ),
    "every client waits": Control(START, ("the first client of a started service waits as long: ",), image="dawdles"),
    "a container does not start": Control(
        f"{SUITE}::test_pull_never_beside_missing",
        (r"^The reply was b'': .*", "ProbeFailed"),
        rewrites={" --pull=missing": " --pull=perhaps"},
    ),
}


@isolated  # ports that the controls name are the session's own
@pytest.mark.harness_benchmark
@pytest.mark.parametrize(
    "control",
    [
        pytest.param(
            control, id=name, marks=[pytest.mark.harness_requires(*control.requires)] if control.requires else []
        )
        for name, control in CONTROLS.items()
    ],
)
def test_red_for_its_own_reason(
    control: Control, built: Callable[[str], Image], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The one test that is run is red, by the one assertion.

    Some controls make two ways cost the same, and the host's noise may still tell them apart: each has three tries.
    """
    arguments = [word for pair in control.rewrites.items() for word in ("--rewrite", *pair)]
    handover, _echo = built("containers/handover"), built("containers/echo")
    if control.image:
        arguments += [f"--harness-contract={BROKEN}/{control.image}", f"--harness-image=handover={handover.reference}"]
    command = (control.test, "-p", "tests.controls.mutations", *arguments)
    name = control.test.partition("::")[2]
    for _try in range(3):
        run = run_pytest(tmp_path_factory.mktemp("run"), *command)
        if run.status:
            break
    assert (run.status, run.outcomes) == (1, {name: "failed"}), run.output
    assert_has(run.texts[name], control.words)
