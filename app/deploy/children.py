"""Processes that a deployment starts: they end when it does, whatever ended it."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1

PASSED_ON = (
    "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "OMP_NUM_THREADS", "MKL_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy",
    "NO_PROXY", "no_proxy",
)  # fmt: skip
"""Of the environment. Nothing else of an account's shell reaches the processes that talk to the network."""

SYSTEM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


ORPHAN = 3
"""Exit code of a child whose parent was gone before it began."""


def die_with_parent(number: signal.Signals) -> None:
    """Let the kernel send this process `number` when its parent ends (Linux; elsewhere nothing)."""
    _tie(_libc(), number)


def tied(parent: int) -> Callable[[], None]:
    """What a child of `parent` does before it begins, so that it never outlives it, not even while it imports.

    A parent that ended between fork and prctl sends no signal any more: then the child ends by itself.
    """
    libc = _libc()

    def tie() -> None:
        _tie(libc, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(ORPHAN)

    return tie


def start(command: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> subprocess.Popen[str]:
    """Start a process in a session of its own, so that Ctrl-C reaches it through us; its two outputs are pipes."""
    return subprocess.Popen(
        list(command),
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        preexec_fn=tied(os.getpid()),
        start_new_session=True,
    )


def stop(process: subprocess.Popen[str], seconds: float) -> None:
    """Ask a process to end, and end it after so long; returns when it is gone."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def environment(home: Path, **more: str) -> dict[str, str]:
    """What a process of the deployment gets of ours: this interpreter's commands first, and a home of its own."""
    path = os.pathsep.join((str(Path(sys.executable).parent), *SYSTEM_PATH))
    kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {**kept, "PATH": path, "HOME": str(home), "PYTHONUNBUFFERED": "1", **more}


def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None, use_errno=True) if sys.platform.startswith("linux") else None


def _tie(libc: ctypes.CDLL | None, number: signal.Signals) -> None:
    if libc is not None:
        libc.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
