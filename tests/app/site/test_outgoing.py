"""The keep-list fails closed: what nobody listed does not leave."""

from dataclasses import replace

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from app.config import compose
from app.privacy.terms import terms_of
from app.rounds.roster import HELLO, STATISTICS
from app.site.outgoing import SCORES, TEXTS, kept, unlisted
from app.site.shield import Declined, shielded
from strategies import records
from strategies.records.arrays import to_record
from strategies.types import Plan, Report

PLAN = Plan(run="r 1", leg="", round=2, rounds=3, hospital="north", seed=0, fold=-1)
MODEL = {"conv.weight": np.ones((2, 2), np.float32)}
REPORT = Report(
    "north", 2, patients=3, crops=9, device="cuda:0 NVIDIA H200 (MIG 1g.18gb)", ledger="3:ab12", epsilon=1.5
)


@pytest.fixture(autouse=True)
def task(monkeypatch):
    """Flower's messages ask which task makes them."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


def question(kind: str = "train") -> Message:
    message = records.request(1, kind, PLAN, model=to_record(MODEL), ttl_s=60)
    message.metadata.__dict__["_message_id"] = "1"
    return message


def answer(alter=lambda content: None) -> list[str]:
    asked = question()
    reply = records.reply(asked, {"values": MODEL, "scale": MODEL}, REPORT, MODEL)
    alter(reply.content)
    return list(unlisted(asked, reply))


def test_an_ordinary_answer_may_leave():
    assert answer() == []


def test_a_packed_question_says_which_tensors_may_leave_as_well():
    two = {**MODEL, "conv.bias": np.ones(2, np.float32)}
    (asked,) = records.packed([records.request(1, "train", PLAN, model=to_record(two), ttl_s=60)])
    asked.metadata.__dict__["_message_id"] = "1"
    assert records.came_packed(asked)
    assert list(unlisted(asked, records.reply(asked, {"values": two}, REPORT))) == []
    [fault] = unlisted(asked, records.reply(asked, {"values": {"Anna": MODEL["conv.weight"]}}, REPORT))
    assert "'Anna'" in fault


def test_an_ordinary_scoring_may_leave():
    facts = {"hospital": "north", "round": 2, "patients": 4, "test_patients": 1, "device": "cpu", "noise_sd": 0.5}
    asked = question("evaluate")
    reply = records.scores(asked, facts, {name: np.zeros(3) for name in SCORES})
    assert list(unlisted(asked, reply)) == []


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        ("evaluate", {"loss": 0.3}),
        (STATISTICS, {"loss": 0.3}),
        ("train", {"number.hu_median": -810.0}),
        ("query.other", {}),
    ],
)
def test_what_another_kind_of_answer_may_hold_is_not_listed_for_this_one(kind, facts):
    asked = question(kind)
    assert list(unlisted(asked, records.scores(asked, {"hospital": "north", **facts}))) != []


def test_a_hello_is_a_name_and_no_more():
    asked = Message(RecordDict(), 1, HELLO)
    asked.metadata.__dict__["_message_id"] = "1"

    def said(**facts):
        return list(unlisted(asked, Message(RecordDict({"hello": ConfigRecord(facts)}), reply_to=asked)))

    assert said(hospital="north") == []
    assert said(hospital="north", patients=3) != []


# --- private ---

SILENT = replace(REPORT, crops=0, steps=2)
"""What a private round reports, with two steps a round."""


def terms(unit="patient"):
    settings = ["training.class_balance=false", "strategy.privacy.steps=2"]
    return terms_of(compose([f"strategy/privacy={unit}", *settings]))


def private(report, unit="patient", **control):
    asked = question()
    return list(unlisted(asked, records.reply(asked, {"values": MODEL}, report, **control), terms(unit)))


@pytest.mark.parametrize(("report", "unit"), [(SILENT, "patient"), (replace(SILENT, crops=9), "sample")])
def test_a_private_report_of_constants_and_the_ledger_may_leave(report, unit):
    assert private(report, unit) == []


@pytest.mark.parametrize(
    "said",
    [
        {"loss": 0.3},
        {"seconds": 1.5},
        {"histogram": (1, 2)},
        {"crops": 9},
        {"steps": 3},
        {"score": 0.9},
        {"memory_mb": 512.0},
    ],
)
def test_a_private_report_that_measures_anything_stays(said):
    asked, told = question(), replace(SILENT, **said)
    assert list(unlisted(asked, records.reply(asked, {"values": MODEL}, told))) == []
    (fault,) = private(told)
    assert repr(next(iter(said))) in fault


def test_a_control_variate_is_not_noised_and_stays():
    (fault,) = private(SILENT, control=MODEL)
    assert fault == "record 'control'"


def scored(*names, **facts):
    asked = question("evaluate")
    facts = {"hospital": "north", "round": 2, "patients": 4, "noise_sd": terms().score_noise, **facts}
    return list(unlisted(asked, records.scores(asked, facts, {name: np.zeros(3) for name in names}), terms()))


def test_a_private_scoring_is_two_noised_histograms():
    assert scored("validation", "test") == []
    for left in (scored("replicates"), scored("baseline"), scored("own_test"), scored(test_samples=31)):
        assert len(left) == 1
    assert len(scored(noise_sd=0.0)) == 1


def test_of_private_hospitals_no_statistic_leaves():
    asked = question(STATISTICS)

    def said(**facts):
        return list(unlisted(asked, records.scores(asked, {"hospital": "north", **facts}), terms()))

    assert said(passed=True) == []
    assert len(said(is_ct=True)) == 1
    assert len(said(**{"count.scans": 31})) == 1


@pytest.mark.parametrize(
    "alter",
    [
        lambda content: content["report"].update({"patient_name": "Anna"}),
        lambda content: content["report"].update({"age": 61}),
        lambda content: content["report"].update({"hospital": "north, Anna"}),
        lambda content: content["report"].update({"run": "Anna"}),
        lambda content: content["report"].update({"device": "cpu of Anna"}),
        lambda content: content["report"].update({"salt": "Anna"}),
        lambda content: content["report"].update({"ledger": "3:Anna"}),
        lambda content: content["report"].update({"loss": "Anna"}),
        lambda content: content["report"].update({"histogram": ["Anna"]}),
        lambda content: content["report"].update({"loss": b"Anna"}),
        lambda content: content["report"].update({"declined": "Anna was here"}),
        lambda content: content.update({"notes": ConfigRecord({"hospital": "north"})}),
        lambda content: content.update({"hello": ConfigRecord({"name": "Anna"})}),
        lambda content: content.update({"report2": MetricRecord({"age": 61})}),
        lambda content: content.update({"scores": ArrayRecord({"Anna": to_record(MODEL)["conv.weight"]})}),
        lambda content: content.update({"delta": to_record({"Anna": MODEL["conv.weight"]})}),
        lambda content: content.update({"delta.anna": to_record(MODEL)}),
    ],
)
def test_what_nobody_listed_is_found(alter):
    assert len(answer(alter)) >= 1


def test_it_leaves_as_a_code_and_nothing_else():
    def careless(message, context):
        reply = records.reply(message, {"values": MODEL}, REPORT)
        reply.content["report"]["note"] = "Anna"
        return reply

    asked, context = question(), Context(1, 1, {}, RecordDict(), {})
    for is_private, code in ((False, "unlisted-content"), (True, "declined")):
        gate = kept(careless, lambda *_, is_private=is_private: terms() if is_private else None)
        with pytest.raises(Declined, match="nobody listed"):
            gate(asked, context)
        reply = shielded(gate)(asked, context)
        assert dict(reply.content["report"]).keys() == {"declined", "salt"}
        assert reply.content["report"]["declined"] == code


@pytest.mark.parametrize("key", TEXTS)
def test_no_text_has_room_for_a_sentence(key):
    assert not TEXTS[key].fullmatch("Anna Berg, born 1960-01-01")
    assert not TEXTS[key].fullmatch("1.3.6.1.4.1.14519.5.2.1.6279.6001.154677396354641150280013275227")
