"""Negative controls of the suites on inheritance and isolation: each of their assertions is red for its own reason.

An image that spoils what it was given is one whose command does so before the program starts; the image itself is the
suites' own. Units are spoiled as they are written.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.activation import activations
from harness.core.errors import ProbeFailed
from harness.images.store import Image
from harness.runtime.runtime import Runtime
from harness.session import factory
from suites.handover import TCP4, Handover, ask
from tests.helpers.controls import BROKEN, Control, assert_has
from tests.helpers.runs import RED, run_pytest
from tests.helpers.sessions import isolated

HANDOVER, CHAIN, ISOLATION = (f"suites/test_{name}.py" for name in ("handover", "chain", "isolation"))

#: What the waiting OCI runtime becomes at the end of its wait.
BECOMES = 'exec crun "$@"'

#: Another name for that, where the account of an isolated session may write.
STRANGER = "/home/harness/stranger"

#: The start of the hand-written service.
STARTS = "ExecStart=podman run"

#: The same, but a process of the service's that nobody ends gets the sockets, too.
LENDS = """\
KillMode=process
ExecStart=/bin/sh -c 'sleep 20 & exec "$$0" "$$@"' podman run"""

GIVEN = r"the container of 'handover\.service' was given something else than its sockets:\n"

#: A relay on the tutorial's port, in front of a socket on another; it listens when the socket unit is up.
RELAY = """\
ListenStream=127.0.0.1:3999
ExecStartPost=/usr/bin/systemd-run --user --quiet --unit=relay \
/usr/bin/socat TCP-LISTEN:3000,bind=127.0.0.1,fork TCP:127.0.0.1:3999
ExecStartPost=/bin/sh -c 'until ss --listening --tcp --numeric | grep -q :3000; do :; done'"""


def given(number: int, what: str, line: str) -> str:
    """Return what is said of a descriptor that is not what it should be."""
    return rf"Descriptor {number} is {what}; it should be the socket of 'Listen{line}'\.$"


ALL_SIX = f"{HANDOVER}::test_every_socket_arrives[unit]"
WAKES_EARLY = "[Unit]\nWants=handover.service\n"

CONTROLS = {
    # -- what arrives -------------------------------------------------------------------------------------------------
    "a descriptor is leaked into the container": Control(
        ALL_SIX,
        (GIVEN + r".*Descriptor 9 is the file '/etc/passwd', which no 'Listen' line asks for\.$",),
        image="leaks",
        requires=("ipv6_loopback",),
    ),
    "a socket is lost": Control(
        ALL_SIX,
        (GIVEN + r".*Descriptor 4 is not there; it should be the socket of 'ListenDatagram=127\.0\.0\.1:3000'\.$",),
        image="drops",
        requires=("ipv6_loopback",),
    ),
    "the order is another": Control(
        ALL_SIX,
        (
            GIVEN,
            given(3, "a socket AF_INET SOCK_DGRAM '127.0.0.1 3000'", "Stream=127.0.0.1:3000"),
            given(4, "a socket AF_INET SOCK_STREAM '127.0.0.1 3000', listening", "Datagram=127.0.0.1:3000"),
        ),
        image="swaps",
        requires=("ipv6_loopback",),
    ),
    "LISTEN_PID names another process": Control(
        ALL_SIX,
        (GIVEN + r".*LISTEN_PID is '1'; it should be '2' in process 2\.$",),
        image="forks",
        requires=("ipv6_loopback",),
    ),
    "LISTEN_FDS is another number": Control(
        ALL_SIX,
        (GIVEN + r".*LISTEN_FDS is '1'; it should be '6' in process 1\.$",),
        image="miscounts",
        requires=("ipv6_loopback",),
    ),
    "a socket is opened by somebody else": Control(
        f"{HANDOVER}::test_one_to_eight_sockets[crun-1]",
        (
            GIVEN
            + r".*Descriptor 9 is a socket AF_INET SOCK_STREAM '127\.0\.0\.1 3000', listening, which no 'Listen' line",
        ),
        image="opens",
    ),
    "a socket is lost on the way through the launcher": Control(
        f"{HANDOVER}::test_without_the_entrypoint[launcher]",
        (r"the container of 'handover-stream\.service' was given .*\n.*Descriptor 4 is not there",),
        image="drops",
    ),
    "there is no init process": Control(
        f"{HANDOVER}::test_with_an_init_process[unit]",
        ("the program is process 1, so there was no init process",),
        rewrites={" --init": ""},
        requires=("catatonit",),
    ),
    "the names are others": Control(
        f"{HANDOVER}::test_named_sockets[unit]",
        (GIVEN + r".*LISTEN_FDNAMES is 'admin:admin'; it should be 'web:web' in process 1\.$",),
        rewrites={"FileDescriptorName=web": "FileDescriptorName=admin"},
    ),
    "the names are those of no socket unit": Control(
        f"{HANDOVER}::test_named_sockets[unit]",
        (GIVEN + r".*LISTEN_FDNAMES is 'mine'; it should be 'web:web' in process 1\.$",),
        image="renames",
    ),
    "the names are on other sockets": Control(
        f"{HANDOVER}::test_several_socket_units[unit]",
        ("the names are on other sockets",),
        rewrites={"FileDescriptorName=admin": "FileDescriptorName=web"},
    ),
    "the service is awake too early": Control(
        f"{HANDOVER}::test_each_socket_unit_wakes_the_service",
        ("the service was awake before its first client came",),
        rewrites={"Service=handover.service\n": f"Service=handover.service\n{WAKES_EARLY}"},
    ),
    "the wrong bytes come back": Control(
        f"{HANDOVER}::test_each_socket_unit_wakes_the_service", (r"the reply over unix:", "HELLO"), image="shouts"
    ),
    # -- who holds the sockets ----------------------------------------------------------------------------------------
    "somebody is between conmon and the OCI runtime": Control(
        f"{CHAIN}::test_each_hands_the_sockets_on[unit]",
        ("Podman forks conmon twice, so that it belongs to systemd", "timeout"),
        rewrites={"#!/bin/sh\n": '#!/bin/sh\n[ "$AGAIN" ] || AGAIN=1 exec timeout 60 "$0" "$@"\n'},
        requires=("crun",),
    ),
    "the OCI runtime does not get the socket": Control(
        f"{CHAIN}::test_each_hands_the_sockets_on[unit]",
        ("as the container is made",),
        rewrites={"#!/bin/sh\n": "#!/bin/sh\nexec 3<&-\n"},
        requires=("crun",),
    ),
    "the container's first process is another program": Control(
        f"{CHAIN}::test_each_hands_the_sockets_on[unit]",
        ("the container's first process",),
        rewrites={BECOMES: f'cp -n "$(command -v crun)" {STRANGER}; exec {STRANGER} "$@"'},
        requires=("crun",),
    ),
    "the first client gets wrong bytes": Control(
        f"{CHAIN}::test_each_hands_the_sockets_on[unit]",
        ("the first client's reply",),
        image="shouts",
        requires=("crun",),
    ),
    "the OCI runtime lends the socket to somebody": Control(
        f"{CHAIN}::test_each_hands_the_sockets_on[unit]",
        ("as the container is started", "sleep"),
        rewrites={BECOMES: f"sleep 10 & {BECOMES}"},
        requires=("crun",),
    ),
    "the container has a socket of its own": Control(
        f"{CHAIN}::test_who_holds_the_sockets_of_a_running_container[unit]",
        ("the container has another socket",),
        image="opens",
    ),
    "another process of the container holds the socket": Control(
        f"{CHAIN}::test_who_holds_the_sockets_of_a_running_container[unit]",
        ("while the container runs",),
        image="forks",
    ),
    "somebody goes on holding the socket": Control(
        f"{CHAIN}::test_after_the_stop_only_systemd_holds_them[unit]",
        (
            r"^Waited \d+\.\d s for the socket to be held by systemd alone; "
            r"the last thing seen was '\['sleep', 'systemd'\]'\.$",
        ),
        rewrites={STARTS: LENDS},
    ),
    # -- what the container can't do ----------------------------------------------------------------------------------
    "the container has a network": Control(
        f"{ISOLATION}::test_no_interface_but_lo",
        ("the container's interfaces",),
        rewrites={" --network=none": " --network=private"},
        requires=("ipv6_loopback",),
    ),
    "the container with a network of its own answers wrongly": Control(
        f"{ISOLATION}::test_no_interface_but_lo", ("the reply over tcp4",), image="shouts", requires=("ipv6_loopback",)
    ),
    "the container has the machine's network": Control(
        f"{ISOLATION}::test_no_way_out[ipv4]",
        (r"the container reached 127\.0\.0\.1 port \d+, which is outside of it",),
        rewrites={" --network=none": " --network=host"},
    ),
    "the container knows a name": Control(
        f"{ISOLATION}::test_no_names",
        (r"the container resolved the name 'harness\.invalid'",),
        rewrites={" --network=none": " --network=none --add-host=harness.invalid:127.0.0.1"},
    ),
    "a relay is between the client and the socket": Control(
        f"{ISOLATION}::test_the_clients_address_is_preserved[tcp4]",
        ("the container sees another address than the client's own",),
        rewrites={"ListenStream=127.0.0.1:3000": RELAY},
    ),
    "a published port does not hide the client": Control(
        f"{ISOLATION}::test_a_published_port_hides_the_client",
        (r"the container sees the client's own address 127\.0\.0\.1 through a published port",),
        rewrites={" --network=slirp4netns": " --network=host"},
    ),
    "IP sockets are not forbidden": Control(
        f"{ISOLATION}::test_restricted_address_families[plain]",
        ("the container could open an IP socket of its own",),
        rewrites={"AF_UNIX AF_NETLINK": "AF_UNIX AF_NETLINK AF_INET AF_INET6"},
    ),
    "the restricted service answers wrongly": Control(
        f"{ISOLATION}::test_restricted_address_families[plain]", ("the reply over tcp4:",), image="shouts"
    ),
    "the root file system can be written to": Control(
        f"{ISOLATION}::test_read_only_root",
        ("the container's root file system can be written to",),
        rewrites={" --read-only": ""},
    ),
    "the socket is for everybody": Control(
        f"{ISOLATION}::test_the_sockets_mode_keeps_others_out",
        ("another user was answered over a socket with the mode 0600",),
        rewrites={"SocketMode=0600": "SocketMode=0666"},
    ),
    "the socket is somewhere else": Control(
        f"{ISOLATION}::test_the_sockets_mode_keeps_others_out",
        ("another user was kept out by something else",),
        rewrites={"ListenStream=/tmp/": "ListenStream=/var/tmp/"},
    ),
    "the container is awake before anybody came": Control(
        f"{ISOLATION}::test_the_sockets_mode_keeps_others_out",
        ("another user woke the container",),
        rewrites={"RemoveOnStop=yes\n": f"RemoveOnStop=yes\n{WAKES_EARLY}"},
    ),
    "the socket is for its owner alone": Control(
        f"{ISOLATION}::test_the_sockets_mode_lets_others_in",
        ("the mode 0666 kept another user out: .*Permission denied",),
        rewrites={"SocketMode=0666": "SocketMode=0600"},
    ),
}


@isolated  # ports that the controls name are the session's own
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
    """The one test that is run is red, by the one assertion."""
    image = built("containers/handover")
    arguments = [word for pair in control.rewrites.items() for word in ("--rewrite", *pair)]
    if control.image:
        arguments += [f"--harness-contract={BROKEN}/{control.image}", f"--harness-image=handover={image.reference}"]
    run = run_pytest(tmp_path_factory.mktemp("run"), control.test, "-p", "tests.controls.mutations", *arguments)
    name = control.test.partition("::")[2]
    if run.outcomes == {name: "skipped"}:
        pytest.skip(run.texts[name])
    assert run.status in RED, run.output
    assert run.outcomes == {name: "failed"}, run.output
    assert_has(run.texts[name], control.words)


@pytest.mark.parametrize("directive", ["RestrictAddressFamilies=AF_UNIX AF_NETLINK", "NoNewPrivileges=yes"])
def test_a_restricted_service_before_podman_has_run(
    directive: str, harness_runtime: Runtime, built: Callable[[str], Image]
) -> None:
    """Without Podman's user namespace there is none to join, and newuidmap(1) may not make one: the words are shown."""
    image = built("containers/handover")
    with factory.open_pristine_session(harness_runtime.store.graph) as session:
        handover = Handover(session, image, ())
        with (
            session.drop_in("handover.service", f"[Service]\n{directive}\n"),
            handover.activated(activations()["unit"], TCP4) as activated,
            pytest.raises(ProbeFailed) as caught,
        ):
            ask(session, activated.workload.listeners[0].endpoints[0], "hello", activated)
    assert_has(
        str(caught.value),
        (r"^The image 'handover' did not answer 'hello' over tcp4:", "newuidmap: .*Operation not permitted"),
    )
