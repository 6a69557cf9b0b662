"""Kills a private run before each of its steps, resumes it, and says what was paid and what left: run as a script.

    python -m tests.federation.private_kill_steps FOLDER STRIDE KEY=VALUE …

As `kill_steps`, with the steps of the ledger as well: every call that moves its bytes, and the moments before a
private fit, before an answer is kept and before it leaves. Each attempt has hospitals of its own.

Every process writes down what it did, with the hash of what it was asked: `drawn` a block of noise, `left` an answer.
Prints one JSON line per kill: what was about to happen, and for each hospital what the ledger says, right after the
kill and at the end.
"""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from app.config import compose
from app.privacy import payment
from app.privacy.payment import Account
from app.rounds.folder import RunFolder
from app.site import work
from app.site.directory import open_site
from strategies.privacy.accountant import epsilon
from strategies.privacy.generator import Generator
from tests.federation.kill_steps import Killer, chosen, forked, start

BLOCK = 64
"""Blocks of noise this long do not repeat by chance."""


class Diary:
    """What all processes of one attempt did: lines that a killed process has written are there."""

    def __init__(self, path: Path) -> None:
        self.path, self.asked, self.write = path, "", os.write  # before anybody counts its calls

    def note(self, what: str, **facts: str) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.write(handle, (json.dumps({"what": what, "asked": self.asked, **facts}) + "\n").encode())
        os.close(handle)

    def lines(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def listen(self) -> None:
        """From now on: every block of noise that is drawn, every answer that leaves."""
        pay, normals = payment.pay, Generator.normals

        def noted_pay(place: Any, message: Any, *args: Any) -> Any:
            self.asked = f"{place.name}/{payment.digest(message)}"
            sent = pay(place, message, *args)
            reply = hashlib.sha256(payment._to_bytes(sent.content)).hexdigest()
            self.note("left", hospital=place.name, reply=reply)
            return sent

        def noted_normals(generator: Generator, count: int) -> Any:
            made = normals(generator, count)
            if count >= BLOCK:
                self.note("drawn", noise=hashlib.sha256(made.tobytes()).hexdigest())
            return made

        payment.pay, Generator.normals = noted_pay, noted_normals


class PrivateKiller(Killer):
    """Counts the ledger's steps and those of the private work too."""

    def arm(self) -> None:
        super().arm()
        for name in ("ftruncate", "truncate", "write"):
            self.before(os, name)
        self.before(work, "private_fit")
        self.before(payment, "_to_bytes")
        self.before(payment, "_from_bytes")


def attempt(path: Path, overrides: list[str], diary: Diary, killer: Killer | None = None) -> None:
    """The run in `path`, or what is left of it, with everything noted."""
    diary.listen()
    start(path, [*overrides, f"federation.name={path.name}"], killer)


def ledgers(path: Path) -> dict[str, Any]:
    """Of each hospital that has one: hashes of the replies kept, ε, the number of reservations, faults."""
    if not (path / "overrides.txt").exists():
        return {}
    config, found = compose(RunFolder(path).overrides()), {}
    for name in config["federation"]["hospitals"]:
        account = Account.of(open_site(config, name), config)
        if (ledger := account.budget.read()) is not None:
            events = ledger.events()
            found[name] = {
                "kept": [entry.reply for entry in ledger.reserved if entry.reply],
                "reserved": len(ledger.reserved),
                "epsilon": epsilon(events, account.delta),
                "faults": [fault.what for fault in account.budget.verify()],
            }
    return found


def main(folder: Path, stride: int, overrides: list[str]) -> None:
    start(folder / "whole", [*overrides, "federation.name=whole"])  # in this process: every fork has what it imports
    print(json.dumps({"whole": ledgers(folder / "whole")}), flush=True)
    counted = Diary(folder / "counted.log"), PrivateKiller(0, folder / "steps.txt")
    forked(lambda: attempt(folder / "counted", overrides, *counted))
    for number in chosen(folder / "steps.txt", stride):
        path, note, diary = (
            folder / f"killed{number:03d}",
            folder / f"{number:03d}.txt",
            Diary(folder / f"{number}.log"),
        )
        killer = PrivateKiller(number, note)
        if forked(lambda path=path, diary=diary, killer=killer: attempt(path, overrides, diary, killer)):
            raise RuntimeError(f"a run had fewer than {number} steps")
        killed = {"did": diary.lines(), "ledgers": ledgers(path)}
        forked(lambda path=path, diary=diary: attempt(path, overrides, diary))
        resumed = {"did": diary.lines()[len(killed["did"]) :], "ledgers": ledgers(path)}
        print(json.dumps({"before": note.read_text(), "killed": killed, "resumed": resumed}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
