"""The one runner of processes: an argument list, an environment from an allow-list, a time limit, bytes back."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from harness.core.errors import CommandError
from harness.core.hints import hint
from harness.core.progress import Progress, silent

#: What a program inherits of the caller's environment; everything else (LISTEN_*, NOTIFY_SOCKET, CI secrets) stays out.
INHERITED = ("PATH", "TERM", "TMPDIR")

#: What a program that talks to package mirrors or registries may inherit beside that.
NETWORK_INHERITED = (
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE"),
)

#: How long the output of a killed program is still read, in seconds.
_DRAIN_S = 0.5

#: Where system programs are, also for an ordinary user whose PATH lacks the sbin folders.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Completed:
    """A program that has ended."""

    command: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes
    duration_s: float

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode(errors="replace")


def base_environment(inherited: Sequence[str] = INHERITED) -> dict[str, str]:
    """Return the environment for a program on the machine itself, built from an allow-list."""
    environment = {name: os.environ[name] for name in inherited if name in os.environ}
    path = environment.get("PATH", "")
    environment["PATH"] = f"{path}:{SYSTEM_PATH}" if path else SYSTEM_PATH
    environment["LANG"] = "C.UTF-8"
    return environment


def network_environment() -> dict[str, str]:
    """Return what a program needs of the caller's environment to reach package mirrors and registries."""
    return {name: os.environ[name] for name in NETWORK_INHERITED if name in os.environ}


def run(
    command: Sequence[str],
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    cwd: str | None = None,
    check: bool = True,
) -> Completed:
    """Run `command` to its end; raise CommandError on a time-out and, with `check`, on a status other than 0.

    A program that can't be started counts as status 127, as in a shell. After a time-out, or an exception such as
    Ctrl-C, the program is gone with all that it has started in its process group.
    """
    started = time.monotonic()
    environment = base_environment() if env is None else dict(env)
    try:
        with _group(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=cwd) as process:
            try:
                stdout, stderr = process.communicate(stdin, timeout_s)
            except subprocess.TimeoutExpired:
                _kill(process)
                stdout, stderr = _rest(process)
                raise CommandError(command, None, stdout=stdout, stderr=stderr, timeout_s=timeout_s) from None
        status = process.returncode
    except OSError as error:
        status, stdout, stderr = 127, b"", str(error).encode()
    completed = Completed(tuple(command), status, stdout, stderr, time.monotonic() - started)
    if check and completed.status != 0:
        raise _failed(completed)
    return completed


def run_with_progress(
    command: Sequence[str],
    *,
    timeout_s: float,
    title: str,
    progress: Progress = silent,
    env: Mapping[str, str] | None = None,
    every_s: float = 2.0,
) -> Completed:
    """Run a long `command` as `run` does, telling `progress` at least every `every_s` seconds where it is.

    Standard output and error are one stream, kept whole; the last line of it is what the progress shows.
    """
    started = time.monotonic()
    environment = base_environment() if env is None else dict(env)
    output = bytearray()
    try:
        with _group(command, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, env=environment) as process:
            assert process.stdout is not None
            os.set_blocking(process.stdout.fileno(), False)
            told = started
            while (status := _pump(process, output)) is None:
                now = time.monotonic()
                if now - started > timeout_s:
                    raise CommandError(command, None, stdout=bytes(output), timeout_s=timeout_s)
                if now - told >= every_s:
                    told = now
                    last = bytes(output[-2000:]).decode(errors="replace").strip().rpartition("\n")[2]
                    progress(f"{title} ({now - started:.0f} s): {last[:100]}")
    except OSError as error:
        status, output = 127, bytearray(str(error).encode())
    completed = Completed(tuple(command), status, bytes(output), b"", time.monotonic() - started)
    if completed.status != 0:
        raise _failed(completed)
    return completed


def _failed(completed: Completed) -> CommandError:
    """Return the error of a program that failed, with what is known of the message that it printed."""
    error = CommandError(completed.command, completed.status, stdout=completed.stdout, stderr=completed.stderr)
    known = hint((completed.stdout + completed.stderr).decode(errors="replace"))
    error.hint, error.blame = known.advice, known.blame or error.blame
    return error


@contextlib.contextmanager
def _group(
    command: Sequence[str], *, stdin: int, stderr: int, env: Mapping[str, str], cwd: str | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Start `command` in a process group of its own, and leave no process of the group behind."""
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
        read, sent = _pipe(theirs, ours) if stdin == subprocess.PIPE else (stdin, None)
        printed, output = _pipe(ours, theirs)
        complained, errors = _pipe(ours, theirs) if stderr == subprocess.PIPE else (None, stderr)
        with subprocess.Popen(
            list(command), stdin=read, stdout=output, stderr=errors, env=env, cwd=cwd, start_new_session=True
        ) as process:
            theirs.close()
            process.stdin, process.stdout, process.stderr = sent, printed, complained
            try:
                yield process
            finally:
                if process.poll() is None:
                    _kill(process)


def _pipe(reads: contextlib.ExitStack, writes: contextlib.ExitStack) -> tuple[IO[bytes], IO[bytes]]:
    """Return the two ends of a pipe that a program can open once more as /dev/stdin or /dev/stdout.

    `Popen` makes pipes that only our own account can open, and a session and a container have others.
    """
    reader, writer = os.pipe()
    os.fchmod(reader, 0o666)
    return reads.enter_context(os.fdopen(reader, "rb")), writes.enter_context(os.fdopen(writer, "wb", buffering=0))


def _rest(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Return what a killed process has printed; a daemon of its own may hold the pipes, and nobody waits for that."""
    try:
        return process.communicate(timeout=_DRAIN_S)
    except subprocess.TimeoutExpired as error:
        return error.stdout or b"", error.stderr or b""


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _pump(process: subprocess.Popen[bytes], output: bytearray) -> int | None:
    """Collect what `process` has printed within a tenth of a second; return its status once it has ended."""
    try:
        status: int | None = process.wait(timeout=0.1)
    except subprocess.TimeoutExpired:
        status = None
    assert process.stdout is not None
    while chunk := process.stdout.read(65536):
        output.extend(chunk)
    return status
