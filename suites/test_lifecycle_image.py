"""An image that is replaced under its tag while its container runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from testinfra.host import Host

from harness import Image, Service, Session, Transport

#: A name in the session's own storage; the images that all sessions share stay as they are.
TAG = "localhost/suites/replaced:latest"


@pytest.fixture
def echo_image(echo_image: Image, harness_session: Session, harness_host: Host) -> Iterator[Image]:
    """The echo image under a tag that the test can move."""
    harness_host.check_output(f"podman tag {echo_image.reference} {TAG}")
    yield replace(echo_image, reference=TAG)
    if not harness_session.kept:
        harness_host.run(f"podman rmi --force {TAG}")
        harness_host.run("podman image prune --force")


def test_the_next_run_has_the_new_image(echo: Service, harness_host: Host) -> None:
    """The tag moves to another image: the container that runs stays what it is, the next client gets the new one."""
    old = harness_host.check_output(f"podman image inspect --format '{{{{.Id}}}}' {TAG}")
    echo.ask_cold(Transport.TCP4)
    echo.wait_active(Transport.TCP4)

    home = echo.session.paths.home
    echo.session.write(f"{home}/replaced/Containerfile", f"FROM {TAG}\nLABEL generation=second\n")
    harness_host.check_output(f"podman build --quiet --pull=never --tag {TAG} ~/replaced")
    harness_host.check_output("rm -r ~/replaced")
    new = harness_host.check_output(f"podman image inspect --format '{{{{.Id}}}}' {TAG}")
    assert new != old, "the tag is still that of the same image"
    echo.ask_warm(Transport.TCP4)
    assert harness_host.check_output("podman inspect --format '{{.Image}}' echo") == old

    harness_host.check_output("systemctl --user stop echo.service")
    echo.ask_cold(Transport.TCP4)
    assert harness_host.check_output("podman inspect --format '{{.Image}}' echo") == new
