"""Kills a run before each step that it takes on disk, resumes it, and says what came out: run as a script.

    python -m tests.federation.kill_steps FOLDER STRIDE KEY=VALUE …

With a stride of 1 at every step, with 3 at every third.

A process that dies leaves what its calls to the file system left, so these are all the moments there are: before each
sync, rename, link and removal, and before each line of the journal. One warm process forks for every attempt, since
importing torch takes longer than the run. Prints one JSON line per kill: what was about to happen, and what differs
from the undisturbed run after the resume (nothing, if all is well).
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from app import files
from app.commands import console, launch
from app.home import home
from app.rounds import folder as folders
from app.rounds.checkpoint import load_state
from app.tensor_files import read_groups

VARY = {"seconds", "memory_mb", "run"}
"""What two runs of the same may differ in: how long it took, what memory was free, and what they are called."""


class Killer:
    """Counts steps on disk and kills this process before step `at`; at 0 it only writes down what they were."""

    def __init__(self, at: int, note: Path) -> None:
        self.at, self.note, self.count = at, note, 0

    def before(self, owner: object, name: str) -> None:
        """Count every call of OWNER.NAME from now on."""
        real = getattr(owner, name)

        def counted(*args: object, **kwargs: object) -> object:
            self.count += 1
            if not self.at:
                with self.note.open("a") as file:
                    file.write(f"{name}\n")
            if self.count == self.at:
                self.note.write_text(f"{name} {' '.join(str(arg) for arg in args if isinstance(arg, Path))}")
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        setattr(owner, name, counted)

    def arm(self) -> None:
        """From now on: everything that changes the disk, and every line of the journal."""
        self.before(folders, "append_json")
        for name in ("replace", "hardlink_to", "unlink", "rename"):
            self.before(Path, name)
        self.before(files.os, "fsync")


def forked(work: Callable[[], None]) -> bool:
    """Do `work` in a child. Returns whether it came to its end; False where it was killed."""
    child = os.fork()
    if child == 0:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            code = 1
            try:
                work()
                code = 0
            finally:
                os._exit(code)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return False
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError("a run failed that should not have")
    return True


def start(path: Path, overrides: list[str], killer: Killer | None = None) -> None:
    """As a sweep does: the run in `path` where there is one, else a new one."""
    if killer:
        killer.arm()
    job = launch.fresh_or_stopped(path, overrides)
    launch.start(job, engine="inprocess", superlink=None, screen=console.Console())


def chosen(note: Path, stride: int) -> list[int]:
    """Of the steps that a Killer wrote down: every so many, and the first of each kind."""
    names = note.read_text().split()
    return sorted({*range(1, len(names) + 1, stride), *(names.index(name) + 1 for name in names)})


def differences(path: Path, other: Path) -> list[str]:
    """What two run folders, and what their hospitals remember, do not have in common."""
    found = []
    if (path / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes():
        found.append("model.safetensors")
    a, b = load_state(path / "checkpoint"), load_state(other / "checkpoint")
    found += [part for part in ("model", "server_opt", "control") if not same(getattr(a, part), getattr(b, part))]
    found += ["state's round"] if a.round != b.round else []
    found += ["journal"] if journal(path) != journal(other) else []
    found += ["summary"] if plain(path / "summary.json") != plain(other / "summary.json") else []
    if memories(path).keys() != memories(other).keys():
        found.append("hospitals' files")
    found += [name for name, kept in memories(path).items() if not same(kept, memories(other).get(name))]
    return found


def same(a: object, b: object) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.tobytes() == b.tobytes()


def journal(path: Path) -> list[object]:
    return [without_time(json.loads(line)) for line in (path / "rounds.jsonl").read_text().splitlines()]


def plain(path: Path) -> object:
    return without_time(json.loads(path.read_text()))


def without_time(value: object) -> object:
    if isinstance(value, dict):
        return {key: without_time(child) for key, child in value.items() if key not in VARY}
    return [without_time(child) for child in value] if isinstance(value, list) else value


def memories(path: Path) -> dict[str, object]:
    """The newest file of every hospital, by hospital and round."""
    run = folders.RunFolder(path).run_name()
    found = {}
    for file in sorted(home().rglob(f"runs/{run}/*/*/round-*.safetensors")):
        found[file.parent.name] = file
    return {f"{name}/{file.name}": read_groups(file)[0] for name, file in found.items()}


def main(folder: Path, stride: int, overrides: list[str]) -> None:
    whole = folder / "whole"
    start(whole, overrides)  # in this process: what it imports and opens, every fork has
    if not memories(whole):
        raise RuntimeError("no hospital remembers anything; the test would prove little")
    forked(lambda: start(folder / "counted", overrides, Killer(0, folder / "steps.txt")))
    for number in chosen(folder / "steps.txt", stride):
        path, note = folder / f"killed-{number:03d}", folder / f"{number:03d}.txt"
        killer = Killer(number, note)
        if forked(lambda path=path, killer=killer: start(path, overrides, killer)):
            raise RuntimeError(f"a run had fewer than {number} steps")
        forked(lambda path=path: start(path, overrides))
        print(json.dumps({"before": note.read_text(), "differs": differences(path, whole)}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
