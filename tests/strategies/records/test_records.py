import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from strategies import records
from strategies.errors import RecordError
from strategies.records.arrays import to_record
from strategies.types import Report
from tests.strategies.fakes import PLAN, FakeGrid, vector


def asked(**changes):
    FakeGrid({})
    plan = replace(PLAN, hospital="A", round=3, **changes)
    return records.request(5, "train", plan, model=to_record(vector(1, 2)), ttl_s=60)


def test_a_message_that_was_read_is_gone_when_it_is_dropped():
    # Without the garbage collector: a round reads many models, and each is as large as memory allows.
    message = records.reply(asked(), {"values": vector(1, 2)}, Report("A", 3, 1, 1))
    record = weakref.ref(message.content["delta"])
    gc.disable()
    try:
        records.read_update(message), records.read_report(message), records.tensor_nbytes(message)
        del message
        assert record() is None
    finally:
        gc.enable()


def test_an_answer_is_read_the_same_whether_it_was_packed_or_not():
    report = Report("A", 3, 1, 1)
    update = {"w": np.ones((2, 3), np.float32), "b": np.ones(2, np.float32)}
    plain, packed = (records.reply(asked(), {"values": update}, report) for _ in range(2))
    assert not records.came_packed(plain)
    assert records.came_packed(*records.packed([packed]))
    for encoded, _ in map(records.read_update, (plain, packed)):
        for name, tensor in update.items():
            np.testing.assert_array_equal(encoded["values"][name], tensor)


def test_a_plan_arrives_as_it_was_sent():
    message = asked(lr_scale=0.25, code="abc", score=True)
    assert records.read_plan(message) == replace(
        PLAN, hospital="A", round=3, lr_scale=0.25, code="abc", score=True, strength=records.read_plan(message).strength
    )
    assert message.metadata.group_id == "3"
    np.testing.assert_array_equal(records.read_model(message)["w"], [1, 2])


def test_a_plan_of_a_newer_server_is_read_without_what_is_new():
    message = asked()
    message.content[records.PLAN]["colour"] = "red"
    assert records.read_plan(message).hospital == "A"


def test_a_plan_that_lacks_something_says_what():
    message = asked()
    del message.content[records.PLAN]["seed"]
    with pytest.raises(RecordError, match="plan lacks seed"):
        records.read_plan(message)


def test_an_answer_brings_update_facts_and_the_plans_run():
    report = Report("A", 3, patients=4, crops=9, score=None, histogram=(1, 2, 3, 4))
    encoded = {"values": vector(1, 2), "scale": vector(3)}
    message = records.reply(asked(), encoded, report, control=vector(5))
    assert replace(records.read_report(message), salt="", loss=0.0) == replace(report, run="run", loss=0.0)
    came, control = records.read_update(message)
    np.testing.assert_array_equal(came["values"]["w"], [1, 2])
    np.testing.assert_array_equal(came["scale"]["w"], [3])
    np.testing.assert_array_equal(control["w"], [5])
    assert records.tensor_nbytes(message) > 4 * 4


def test_an_answer_states_the_norm_of_an_update_that_is_not_encoded():
    plain, encoded = {"values": vector(3, 4)}, {"values": vector(3, 4), "scale": vector(3)}
    report = Report("A", 3, 1, 1)
    assert records.read_report(records.reply(asked(), plain, report)).norm == 5
    assert records.read_report(records.reply(asked(), encoded, report)).norm is None


def test_two_equal_answers_are_two_objects():
    report = Report("A", 3, 1, 1)
    salts = {records.read_report(records.reply(asked(), {"values": vector(1)}, report)).salt for _ in range(2)}
    assert len(salts) == 2


def test_a_refusal_carries_a_code_and_nothing_else():
    message = records.decline(asked(), "over-budget")
    assert records.declined(message) == "over-budget"
    assert set(message.content[records.REPORT]) == {"declined", "salt"}


@pytest.mark.parametrize("text", ["No such file: /data/MUELLER^HANS.dcm", "", "Über", "a" * 200, "two\nlines"])
def test_text_of_a_hospital_does_not_pass_as_a_code(text):
    with pytest.raises(ValueError, match="a code like"):
        records.decline(asked(), text)
    forged = Message(RecordDict({"report": ConfigRecord({"declined": text or "A b"})}), reply_to=asked())
    assert records.declined(forged) == "declined"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("patients", -1), ("patients", 1.5), ("patients", True), ("crops", "many"), ("loss", "low"), ("round", [1]),
        ("hospital", 4), ("device", "x" * 1000), ("device", "\x1b[2Jcuda"), ("histogram", [1.5]),
        ("histogram", 3), ("score", True),
    ],
)  # fmt: skip
def test_a_report_of_wrong_types_is_refused_by_name(field, value):
    message = records.reply(asked(), {"values": vector(1)}, Report("A", 3, 1, 1))
    message.content[records.REPORT][field] = value
    with pytest.raises(RecordError, match=field):
        records.read_report(message)


def test_an_answer_without_an_update_is_refused():
    message = records.scores(asked(), {"auc": 0.9})
    with pytest.raises(RecordError, match="no record 'delta'"):
        records.read_update(message)


def test_scores_arrive_as_plain_values():
    message = records.scores(asked(), {"patients": 3, "bins": [1, 2]}, {"counts": np.arange(3)})
    answer = records.read_scores(message)
    assert answer.report == {"patients": 3, "bins": [1, 2]}
    np.testing.assert_array_equal(answer.arrays["counts"], [0, 1, 2])
