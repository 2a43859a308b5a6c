"""Processes for untrusted programs: namespaces of their own, another user, and limits.

`ISOLATED` hides everything but Python and the system's libraries, which are read-only: there is no
network, no other process, no file of anyone's, and what is written lies in memory and goes with the
process. It needs Linux, and root or the right to make user namespaces. `LIMITS` has limits alone:
what a program may read, send and kill is what its user may (for root that user is `nobody`).
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

OFF, ISOLATED, LIMITS = "", "isolated", "limits"
KINDS = (OFF, ISOLATED, LIMITS)
NOBODY = 65534
_DISK = 16 << 20  # bytes that a program may write
_FILES = 64  # that it may have open
_NEW = {"mount": 0x00020000, "uts": 0x04000000, "ipc": 0x08000000, "pid": 0x20000000}
_NEW["net"] = 0x40000000
_NEW_USER = 0x10000000
_RECURSIVE, _BIND, _PRIVATE = 0x4000, 0x1000, 0x40000
_NOSUID, _NODEV, _DETACH = 2, 4, 2
_PARENT_DIES, _NO_NEW_PRIVILEGES = 1, 38
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41, "riscv64": 41}  # numbers of a system call
_MOUNT_SETATTR = 442
_READ_ONLY = 1 | _NOSUID | _NODEV  # attributes of that call
_HERE = -100


class Refused(Exception):
    """The system does not allow a step of the isolation."""


@dataclass(frozen=True)
class Limits:
    """The most that a process may use: seconds of the processor's time, megabytes of memory."""

    seconds: float
    megabytes: int


def interpreter(program: Path) -> list[str]:
    """Returns the command that runs a file of `inside` with the installed packages, and no site."""
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    packages = dict.fromkeys(sysconfig.get_paths()[name] for name in ("purelib", "platlib"))
    return [
        python,
        "-E",
        "-s",
        "-S",
        "-B",
        os.path.realpath(program),
        *map(os.path.realpath, packages),
    ]


class Process(NamedTuple):
    """A started command: its own id, and that of the child of ours that ends with it."""

    command: int
    child: int

    def end(self) -> None:
        """Kills both; in an isolated process's namespace that ends all that is in it."""
        if self.command != self.child:
            os.kill(self.child, signal.SIGSTOP)
            _, status = os.waitpid(self.child, os.WUNTRACED)
            if not os.WIFSTOPPED(status):
                return  # it has ended, and so has the command
            os.kill(self.command, signal.SIGKILL)
        os.kill(self.child, signal.SIGKILL)
        os.waitpid(self.child, 0)


def start(
    command: Sequence[str], files: Mapping[int, int], kind: str, limits: Limits, folder: str
) -> Process:
    """Starts a command in a sandbox. May only be called by a process with one thread.

    Args:
        files: of each of the command's open files the one here; it has no others.
        kind: `ISOLATED` or `LIMITS`.
        folder: where it works if it has no folder of its own in memory.

    Raises:
        Refused: the system does not allow it; names the step.
    """
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        with contextlib.suppress(BaseException):
            os.close(reader)
            _enter(command, files, kind, limits, folder, writer)
        os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as told:
        number, _, refusal = told.read(1000).partition("\n")
    if refusal or not number:
        os.waitpid(process, 0)
        raise Refused(refusal.strip() or "a process ended at its start")
    return Process(int(number), process)


def _enter(
    command: Sequence[str],
    files: Mapping[int, int],
    kind: str,
    limits: Limits,
    folder: str,
    told: int,
) -> None:
    """Becomes the command, or the parent that ends with it; tells what is refused."""
    try:
        os.setsid()
        files, told = _moved(files, told)
        root, user = os.geteuid() == 0, (os.geteuid(), os.getegid())
        _die_with_parent()
        if kind == ISOLATED:
            with _step("new namespaces"):
                _call("unshare", sum(_NEW.values()) | (0 if root else _NEW_USER))
            if not root:
                _map_user(*user)
            with _step("a root of its own"):
                _new_root(command)
            folder = "/tmp"
            if child := os.fork():
                os.write(told, f"{child}\n".encode())
                os.closerange(0, 256)  # or the pipes' other ends would see no end
                # Left to init, so that its id is no other process's while this one lives.
                os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
                os._exit(0)
        else:
            os.write(told, f"{os.getpid()}\n".encode())
        os.chdir(folder)
        if root:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        _die_with_parent()
        _limit(limits)
        environment = {"PATH": "", "HOME": folder, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
        environment |= {"OPENBLAS_NUM_THREADS": "1", "LC_ALL": "C.UTF-8", "TMPDIR": folder}
        with _step(f"{command[0]}, run by {'nobody' if root else 'this user'}"):
            os.execve(command[0], list(command), environment)
    except (OSError, Refused) as error:
        os.write(told, f"\n{error}".encode()[:900])


def _moved(files: Mapping[int, int], told: int) -> tuple[dict[int, int], int]:
    """Puts open files to their numbers, and closes all others at the command's start."""
    high = {target: os.dup2(source, 200 + target) for target, source in files.items()}
    told = os.dup2(told, 199, inheritable=False)
    for target, source in high.items():
        os.dup2(source, target)
    os.closerange(max(files) + 1, 199)
    os.closerange(200, 4096)
    return dict(files), told


def _limit(limits: Limits) -> None:
    seconds = int(-(-limits.seconds // 1))
    each = {
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_FSIZE: _DISK,
        resource.RLIMIT_NOFILE: _FILES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: 0,  # no further process or thread
    }
    if sys.platform == "linux":  # other kernels do not enforce it
        each[resource.RLIMIT_AS] = limits.megabytes << 20
        each[resource.RLIMIT_MSGQUEUE] = 0
        each[resource.RLIMIT_MEMLOCK] = 0
        _call("prctl", _NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    for which, most in each.items():
        resource.setrlimit(which, (most, most))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        _call("prctl", _PARENT_DIES, signal.SIGKILL, 0, 0, 0)


def _map_user(user: int, group: int) -> None:
    """Keeps the user's own number in a new user namespace."""
    with _step("the mapping of users"):
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def _new_root(command: Sequence[str]) -> None:
    """Leaves a file system in memory that has Python, the libraries and nothing else."""
    _mount(None, "/", None, _RECURSIVE | _PRIVATE)
    _mount("tmpfs", "/tmp", "tmpfs", _NOSUID | _NODEV, f"size={_DISK},nr_inodes=8192,mode=755")
    os.mkdir("/tmp/old")
    os.chdir("/tmp")
    number = _PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise OSError(f"not known on {os.uname().machine}")
    _call("syscall", number, b"/tmp", b"/tmp/old")
    os.chdir("/")
    for place in _visible(command):
        if os.path.islink(f"/old{place}"):
            os.symlink(os.readlink(f"/old{place}"), place)
            continue
        os.makedirs(place, exist_ok=True)
        _mount(f"/old{place}", place, None, _BIND | _RECURSIVE)
        attributes = (ctypes.c_uint64 * 4)(_READ_ONLY, 0, 0, 0)
        _call("syscall", _MOUNT_SETATTR, _HERE, place.encode(), 0x8000, attributes, 32)
    os.makedirs("/tmp", exist_ok=True)
    os.chmod("/tmp", 0o777)
    _call("umount2", b"/old", _DETACH)
    os.rmdir("/old")


def _visible(command: Sequence[str]) -> list[str]:
    """Returns the folders that Python needs; none lies in another."""
    needed = [os.path.realpath(place) for place in (sys.base_prefix, sys.base_exec_prefix)]
    needed.append(os.path.dirname(command[0]))
    needed += [
        word for word in command[1:] if word.startswith("/") and os.path.isdir(f"/old{word}")
    ]
    needed += [os.path.dirname(word) for word in command[1:] if word.endswith(".py")]
    system = ["/usr", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store"]
    links = [place for place in system if os.path.islink(f"/old{place}")]
    folders = {os.path.normpath(place) for place in (*system, *needed)} - {*links}
    there = sorted(place for place in folders if os.path.isdir(f"/old{place}"))
    found: list[str] = []
    for place in there:
        if not (found and f"{place}/".startswith(f"{found[-1]}/")):
            found.append(place)
    return [*links, *found]


@contextlib.contextmanager
def _step(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Refused(f"{name}: {error.strerror or error}") from error


def _mount(
    source: str | None, target: str, kind: str | None, flags: int, options: str | None = None
) -> None:
    words = [None if word is None else word.encode() for word in (source, target, kind)]
    _call("mount", *words, ctypes.c_ulong(flags), options.encode() if options else None)


def _call(name: str, *arguments: object) -> None:
    """Calls a function of the C library.

    Raises:
        OSError: it failed.
    """
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
