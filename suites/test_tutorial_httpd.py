"""The tutorial's second example, step by step: an Apache HTTP server activated by systemd-socket-activate."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from testinfra.host import Host

from harness import Deadline, Image, Listener, Session, Transport, wait_until

#: How long each step may take, in seconds.
LIMIT_S = 15

#: The launcher's unit; the tutorial starts it in a shell of its own.
SHELL = "shell.service"


#: The launcher listens on the port for both families; httpd's configuration names it, too.
LISTENER = Listener((Transport.TCP4, Transport.TCP6), port=8080, fixed_port=True)


@pytest.fixture
def reserved(harness_session: Session) -> Iterator[None]:
    """The port is this session's for the time of the test."""
    with harness_session.lock_ports([LISTENER]):
        yield


@pytest.fixture
def launcher(harness_session: Session, harness_host: Host, httpd_image: Image, reserved: None) -> Iterator[str]:
    """`systemd-socket-activate -l 8080 podman run ...` in one shell, listening; ended afterwards."""
    harness_session.capture(SHELL)
    # It hands on only TERM, PATH, USER and HOME; without -E, podman would not find the session's runtime folder.
    # "mixed" ends it as a shell does: podman alone gets the signal and ends its container.
    harness_host.check_output(
        f"systemd-run --user --quiet --unit={SHELL} --property=KillMode=mixed "
        "systemd-socket-activate -E XDG_RUNTIME_DIR -l 8080 "
        f"podman run --rm --network=none {httpd_image.reference}"
    )
    try:
        yield wait_until(
            lambda: harness_session.output(SHELL),
            lambda text: "Listening on [::]:8080 as 3." in text,
            Deadline.after(LIMIT_S),
            "the launcher to listen",
        )
    finally:
        if not harness_session.kept:
            harness_host.run(f"systemctl --user stop {SHELL}")
            harness_host.run(f"systemctl --user reset-failed {SHELL}")


@pytest.mark.harness_verifies("The Apache HTTP server supports socket activation, and curl shows its test page.")
def test_curl_shows_the_test_page(harness_host: Host, launcher: str) -> None:
    """`curl -s localhost:8080 | head -6` shows the title of the test page."""
    page = harness_host.check_output(f"curl -s --max-time {LIMIT_S} localhost:8080 | head -6")
    assert "<title>Test Page for the HTTP Server on " in page


@pytest.mark.harness_verifies(
    "systemd-socket-activate, an alternative to units, becomes podman run for the first client."
)
def test_the_container_starts_with_the_first_client(
    harness_session: Session, harness_host: Host, launcher: str
) -> None:
    """The launcher waits without a container, and becomes podman when the first client comes."""
    assert "Communication attempt" not in launcher
    assert harness_host.check_output("podman ps --quiet") == ""
    harness_host.check_output(f"curl -s --max-time {LIMIT_S} localhost:8080")
    output = harness_session.output(SHELL)
    assert "Communication attempt on fd 3." in output
    assert re.search(r"^Exec(ing |uting: )", output, re.MULTILINE), "by systemd 257 and older, or by 262"
    assert harness_host.check_output("podman ps --format '{{.Networks}}{{.Ports}}'") == ""
    assert len(harness_host.check_output("podman ps --quiet").split()) == 1


@pytest.mark.harness_verifies("--publish is not needed for a port that comes with an inherited socket.")
def test_the_port_is_not_published(harness_host: Host, launcher: str) -> None:
    """`--publish` is not used: the container has no network, yet it answers on the launcher's port."""
    harness_host.check_output(f"curl -s --max-time {LIMIT_S} localhost:8080")
    container = harness_host.check_output("podman ps --quiet")
    assert harness_host.check_output(f"podman inspect --format '{{{{.HostConfig.NetworkMode}}}}' {container}") == "none"
    assert harness_host.check_output(f"podman port {container}") == ""
