"""Kills a hospital's process at every step of a private round, or lets several race; prints what is left as JSON.

A script, not a test: it forks, and pytest's process is no good place for that. See `test_budget_accidents.py`.
"""

import json
import os
import signal
import sys
import tempfile
from itertools import count
from pathlib import Path

from app.site.budget import Budget, BudgetError
from strategies.privacy.events import DpSgd
from strategies.privacy.ledger import Request

EVENTS = [DpSgd(unit="patient", noise_multiplier=2.0, sample_rate=0.1, steps=20, clip=1.0)]
STEPS = ("open", "write", "ftruncate", "fsync", "replace", "unlink")


def budget_in(folder):
    return Budget(Path(folder, "state"), Path(folder, "keys", "north.key"), "north")


def answer(budget, round, note=lambda what, reply: None):
    """One private round; `note` is told what was computed and what leaves."""
    reservation = budget.reserve(Request("run", "", round, "d"), EVENTS, cap=8.0, delta=1e-5)
    reply = reservation.reply
    if reply is None:
        reply = os.urandom(32)  # stands for a noised update
        note("computed", reply)
        reply = budget.commit(reservation, reply)
    note("left", reply)
    return reply.hex()


def kill_at(step):
    """Arm: the process dies before its `step`-th call to the disk; a write dies half-way too."""
    steps = count()

    def dies(real, name):
        def call(*args, **named):
            if next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            if name == "write" and next(steps) == step:
                real(args[0], args[1][: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **named)

        return call

    for name in STEPS:
        setattr(os, name, dies(getattr(os, name), name))


def in_child(work):
    """Run `work` in a forked child; whether it lived to its end."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return os.WIFEXITED(os.waitpid(child, 0)[1])


def crash(step, rounds_before):
    """Answer some rounds, die in the next one at `step`, start again."""
    with tempfile.TemporaryDirectory() as folder:
        budget = budget_in(folder)
        for round in range(rounds_before):
            answer(budget, round)

        def note(what, reply):
            Path(folder, what).write_text(reply.hex(), encoding="ascii")

        def noted(what):
            path = Path(folder, what)
            return path.read_text(encoding="ascii") if path.exists() else None

        def doomed():
            kill_at(step)
            answer(budget_in(folder), rounds_before, note)
            Path(folder, "none").unlink(missing_ok=True)  # the last step: everything is done, the reply has left

        lived = in_child(doomed)
        faults = budget.verify()
        stored = any(Path(folder, "state", "replies").glob(f"*-{Request('run', '', rounds_before, 'd').key[:16]}"))
        facts = {
            "lived": lived,
            "computed": noted("computed"),
            "left": noted("left"),
            "stored": stored,
            "retried": answer(budget, rounds_before),
            "again": answer(budget, rounds_before),
        }
        reserved = [entry.round for entry in budget.read().reserved]
        return {**facts, "reserved": reserved, "faults": [fault.what for fault in (*faults, *budget.verify())]}


def crashes(rounds_before):
    facts = [crash(0, rounds_before)]
    while not facts[-1]["lived"]:
        facts.append(crash(len(facts), rounds_before))
    return facts


def race(processes, cap, same):
    """Several processes ask at once, for different rounds or all for the same."""
    with tempfile.TemporaryDirectory() as folder:
        budget, children = budget_in(folder), []
        for number in range(processes):
            child = os.fork()
            if child == 0:
                code, reply = "", b""
                try:
                    reservation = budget.reserve(
                        Request("run", "", 0 if same else number, "d"), EVENTS, cap=cap, delta=1e-5
                    )
                    reply = reservation.reply or budget.commit(reservation, os.urandom(32))
                except BudgetError as error:
                    code = error.code
                Path(folder, f"out{number}").write_text(json.dumps([code, reply.hex()]), encoding="ascii")
                os._exit(0)
            children.append(child)
        for child in children:
            os.waitpid(child, 0)
        outcomes = [json.loads(Path(folder, f"out{n}").read_text(encoding="ascii")) for n in range(processes)]
        return {"outcomes": outcomes, "spent": budget.read().spent(1e-5), "faults": len(budget.verify())}


if __name__ == "__main__":
    os.fsync = lambda handle: None  # a killed process loses nothing that it wrote; a step all the same
    what, *numbers = sys.argv[1:]
    if what == "crashes":
        json.dump(crashes(int(numbers[0])), sys.stdout)
    else:
        json.dump(race(int(numbers[0]), float(numbers[1]), numbers[2] == "same"), sys.stdout)
