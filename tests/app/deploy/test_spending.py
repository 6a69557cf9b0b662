"""What private rounds cost is told on the hospital's own console, on its way from the worker to the screen."""

import logging
import sys
import threading

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from app.deploy import children, guard, life
from app.deploy.founding import Founding
from app.deploy.guard import Answer, Asked
from app.deploy.hospital import Kit, make_hospital
from app.deploy.life import Life
from strategies import records

COST = {"epsilon": 0.75, "spent": 1.25, "cap": 8.0}


def answered(monkeypatch, **told):
    """A training round's answer, as it is about to leave."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    message = Message(RecordDict({}), 7, "train", ttl=60.0)
    message.metadata.__dict__["_message_id"] = "1"
    reply = Message(RecordDict({records.REPORT: ConfigRecord({"loss": 0.5, **told})}), reply_to=message)
    return Answer(message, reply, Asked("train", "r1", "", 3, "", ""), 2.5)


def test_a_private_round_s_line_says_what_is_spent_and_of_how_much(monkeypatch):
    line = guard.line(answered(monkeypatch, **COST))
    assert line.startswith("run r1 round 3: train answered in 2.5 s")
    assert line.endswith("; ε 1.25 of 8 spent")


def test_a_round_without_privacy_claims_no_ε(monkeypatch):
    assert "ε" not in guard.line(answered(monkeypatch))


def test_what_the_worker_says_is_on_the_console_and_in_the_log(tmp_path, monkeypatch, caplog):
    line, said, begin = guard.line(answered(monkeypatch, **COST)), [], children.start

    def start(command, *, env, cwd):
        code = f"print({line!r})" if command[2] == "app.deploy.resident" else "import time; time.sleep(1)"
        return begin([sys.executable, "-c", code], env={**env, "PYTHONIOENCODING": "utf-8"}, cwd=cwd)

    monkeypatch.setattr(life.children, "start", start)
    hospital = make_hospital(tmp_path / "north", Founding("north", tmp_path).settings())
    with caplog.at_level(logging.INFO):
        Life(hospital, Kit("north", "localhost:1", False), said.append, logging.getLogger("book")).live(
            threading.Event()
        )
    assert line in said
    assert f"worker: {line}" in caplog.messages
