"""Run a command whose system calls of one kind fail, as on a kernel without them: `deny.py KIND COMMAND...`.

Only the standard library, since it runs before anything else on a machine of the matrix.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
import sys

#: From linux/prctl.h, linux/seccomp.h and linux/sched.h.
_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_CLONE_NEWUSER = 0x10000000

#: Numbers of socket, unshare, clone and clone3, by machine.
_NUMBERS = {"x86_64": (41, 272, 56, 435), "aarch64": (198, 97, 220, 435)}

#: Of BPF: load a word, jump if equal, jump if a bit is set, return; see linux/filter.h.
_LOAD, _EQUAL, _ANY, _RETURN = 0x20, 0x15, 0x45, 0x06

#: Where struct seccomp_data has the number and the first argument.
_NUMBER, _ARGUMENT = 0, 16

Instruction = tuple[int, int, int, int]


def without(number: int, test: int, value: int, error: int) -> list[Instruction]:
    """Return a filter: the call `number` fails with `error` where its first argument passes `test` with `value`."""
    return [
        (_LOAD, 0, 0, _NUMBER),
        (_EQUAL, 0, 3, number),
        (_LOAD, 0, 0, _ARGUMENT),
        (test, 0, 1, value),
        (_RETURN, 0, 0, _ERRNO | error),
        (_RETURN, 0, 0, _ALLOW),
    ]


def filters(kind: str) -> list[list[Instruction]]:
    """Return the filters that take something from a kernel."""
    a_socket, unshare, clone, clone3 = _NUMBERS[platform.machine()]
    if kind == "ipv6":
        return [without(a_socket, _EQUAL, socket.AF_INET6, errno.EAFNOSUPPORT)]
    # The arguments of clone3 are in memory, where no filter sees them; without it libraries use clone.
    none = [(_LOAD, 0, 0, _NUMBER), (_EQUAL, 0, 1, clone3), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    users = [without(number, _ANY, _CLONE_NEWUSER, errno.EPERM) for number in (unshare, clone)]
    return [[*none, (_RETURN, 0, 0, _ALLOW)], *users]


def install(program: list[Instruction]) -> None:
    """Install a filter, for this process and all that it starts; root needs no `no_new_privs` for it."""
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in program))
    whole = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, whole, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_SECCOMP)")


if __name__ == "__main__":
    for one in filters(sys.argv[1]):
        install(one)
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - it becomes the command
