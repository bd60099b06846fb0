"""The tutorial's second example, step by step: an Apache HTTP server activated by systemd-socket-activate."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from testinfra.host import Host

from harness.deadline import Deadline, wait_until
from harness.images import Image
from harness.session.session import Session
from harness.transports import Listener, Transport

pytestmark = pytest.mark.about("httpd")

#: How long each step may take, in seconds.
LIMIT_S = 15

#: The launcher's unit; the tutorial starts it in a shell of its own.
SHELL = "shell.service"


#: The launcher listens on the port for both families; httpd's configuration names it, too.
LISTENER = Listener((Transport.TCP4, Transport.TCP6), port=8080, fixed_port=True)


@pytest.fixture
def reserved(user_session: Session) -> Iterator[None]:
    """The port is this session's for the time of the test."""
    with user_session.reserve([LISTENER]):
        yield


@pytest.fixture
def launcher(user_session: Session, host: Host, httpd_image: Image, reserved: None) -> Iterator[str]:
    """`systemd-socket-activate -l 8080 podman run ...` in one shell, listening; ended afterwards."""
    user_session.capture(SHELL)
    # It hands on only TERM, PATH, USER and HOME; without -E, podman would not find the session's runtime folder.
    # "mixed" ends it as a shell does: podman alone gets the signal and ends its container.
    host.check_output(
        f"systemd-run --user --quiet --unit={SHELL} --property=KillMode=mixed "
        "systemd-socket-activate -E XDG_RUNTIME_DIR -l 8080 "
        f"podman run --rm --network=none {httpd_image.reference}"
    )
    try:
        yield wait_until(
            lambda: user_session.output(SHELL),
            lambda text: "Listening on [::]:8080 as 3." in text,
            Deadline.after(LIMIT_S),
            "the launcher to listen",
        )
    finally:
        if not user_session.kept:
            host.run(f"systemctl --user stop {SHELL}")
            host.run(f"systemctl --user reset-failed {SHELL}")


@pytest.mark.claim("The Apache HTTP server supports socket activation, and curl shows its test page.")
def test_curl_shows_the_test_page(host: Host, launcher: str) -> None:
    """`curl -s localhost:8080 | head -6` shows the title of the test page."""
    page = host.check_output(f"curl -s --max-time {LIMIT_S} localhost:8080 | head -6")
    assert "<title>Test Page for the HTTP Server on " in page


@pytest.mark.claim("systemd-socket-activate, an alternative to units, becomes podman run for the first client.")
def test_the_container_starts_with_the_first_client(user_session: Session, host: Host, launcher: str) -> None:
    """The launcher waits without a container, and becomes podman when the first client comes."""
    assert "Communication attempt" not in launcher
    assert host.check_output("podman ps --quiet") == ""
    host.check_output(f"curl -s --max-time {LIMIT_S} localhost:8080")
    output = user_session.output(SHELL)
    assert "Communication attempt on fd 3." in output
    assert "Execing " in output
    assert host.check_output("podman ps --format '{{.Networks}}{{.Ports}}'") == ""
    assert len(host.check_output("podman ps --quiet").split()) == 1


@pytest.mark.claim("--publish is not needed for a port that comes with an inherited socket.")
def test_the_port_is_not_published(host: Host, launcher: str) -> None:
    """`--publish` is not used: the container has no network, yet it answers on the launcher's port."""
    host.check_output(f"curl -s --max-time {LIMIT_S} localhost:8080")
    container = host.check_output("podman ps --quiet")
    assert host.check_output(f"podman inspect --format '{{{{.HostConfig.NetworkMode}}}}' {container}") == "none"
    assert host.check_output(f"podman port {container}") == ""
