"""Processes that we start: ended with everything they started, by their own id."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil

STOP_SECONDS = 1.0
"""How long processes get to end by themselves."""

PARENT_SECONDS = 0.5
"""Between looks whether the parent is there."""

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that a process gets when its parent dies, also when the parent was killed. Linux only."""


def stop(process: subprocess.Popen[bytes], patience: float = STOP_SECONDS) -> None:
    """End a process and all that it started (some start sessions of their own, so the tree is walked first)."""
    family = tree(process.pid)
    end(family, patience)
    end(tree(process.pid), 0.0)
    process.wait()


def tree(pid: int) -> list[psutil.Process]:
    """A process and all below it; empty where it is gone."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def end(processes: list[psutil.Process], patience: float = STOP_SECONDS) -> None:
    """Ask processes to end, and kill those that have not after `patience` seconds."""
    _signal(processes, signal.SIGTERM)
    _, alive = psutil.wait_procs(processes, timeout=patience)
    _signal(alive, signal.SIGKILL)


def marked(environment: Mapping[str, str]) -> Iterator[psutil.Process]:
    """Processes of this account that were started with these environment variables."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            theirs = process.environ()
            if all(theirs.get(name) == value for name, value in environment.items()):
                yield process


def dying_with_parent() -> Callable[[], None]:
    """What a child is to do before it starts, so that it does not outlive a parent that was killed."""
    libc = ctypes.CDLL(None, use_errno=True)

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)

    return ask if hasattr(libc, "prctl") else lambda: None


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Finish what is inside, however often Ctrl-C is pressed meanwhile, or if the terminal is closed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ending = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ending}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ending_like_an_interrupt() -> None:
    """Make SIGTERM and SIGHUP end this process as Ctrl-C does, so that it, too, stops what it started.

    Under `nohup` SIGHUP stays ignored.
    """
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _interrupt)


def end_with_parent() -> None:
    """Have this process killed when its parent is gone: a ServerApp whose SuperLink fell would ask it for ever."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()


def free_port() -> int:
    """A port on loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something accepts connections there."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False


def tail(path: Path, characters: int = 400) -> str:
    """The end of a log, on one line."""
    return " ".join(path.read_text(errors="replace").split())[-characters:] if path.exists() else ""


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
