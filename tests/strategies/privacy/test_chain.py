import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.privacy.chain import GENESIS, Anchor, anchor, read, sign, verify

KEY = bytes(range(32))


def chain_of(length, key=KEY):
    lines = []
    for number in range(length):
        lines.append(
            sign(key, "reserved", {"round": number, "ε": 0.1 + 0.2}, after=lines, at="2026-03-01T12:00:00+00:00")
        )
    return lines


def content_of(lines):
    return "".join(f"{line.text()}\n" for line in lines)


def codes(content, anchors=()):
    return [(fault.code, fault.line) for fault in verify(KEY, content, anchors)[1]]


def test_an_untouched_chain_is_read_as_written():
    lines = chain_of(5)
    authentic, faults = verify(KEY, content_of(lines), [anchor(lines)])
    assert authentic == tuple(lines)
    assert faults == ()


def test_every_line_is_json_for_people_to_read():
    plain = [json.loads(text) for text in content_of(chain_of(2)).splitlines()]
    assert [line["number"] for line in plain] == [0, 1]
    assert plain[0]["before"] == GENESIS
    assert plain[1]["before"] == plain[0]["mac"]


def test_no_lines_are_no_fault_unless_some_were_seen_before():
    assert verify(KEY, "") == ((), ())
    assert codes("", [Anchor(3, "m")]) == [("cut", 0)]


def test_an_edited_line_is_named():
    lines = chain_of(5)
    content = content_of(lines).replace('"round":2', '"round":1')
    assert codes(content, [anchor(lines)]) == [("edited", 2)]


def test_an_edited_line_with_another_keys_mac_is_named():
    forged = chain_of(3, key=bytes(32))
    assert codes(content_of([*chain_of(2), forged[2]])) == [("edited", 2)]


def test_removed_lines_are_named():
    lines = chain_of(7)
    assert codes(content_of([*lines[:2], *lines[4:]]), [anchor(lines)]) == [("removed", 2), ("removed", 3)]
    assert codes(content_of(lines[1:]), [anchor(lines)]) == [("removed", 0)]


def test_moved_and_repeated_lines_are_named():
    a, b, c, d = chain_of(4)
    assert codes(content_of([a, c, b, d])) == [("moved", 1)]
    assert codes(content_of([a, b, b, c, d])) == [("moved", 1)]


def test_a_removed_and_an_edited_line_are_told_apart():
    lines = chain_of(6)
    content = content_of([lines[0], *lines[2:]]).replace('"round":3', '"round":0')
    assert sorted(codes(content)) == [("edited", 3), ("removed", 1)]


@pytest.mark.parametrize("kept", [0, 1, 4])
def test_a_cut_tail_or_an_older_copy_shows_against_an_anchor_alone(kept):
    lines = chain_of(5)
    assert codes(content_of(lines[:kept])) == []
    assert codes(content_of(lines[:kept]), [anchor(lines)]) == [("cut", kept)]


def test_a_chain_that_went_on_after_the_anchor_is_fine():
    assert codes(content_of(chain_of(5)), [anchor(chain_of(5)[:3]), Anchor(0, GENESIS)]) == []


def test_an_older_copy_that_was_written_on_shows_against_an_anchor():
    lines = chain_of(5)
    other = [*lines[:3], sign(KEY, "reserved", {"round": 99}, after=lines[:3], at="later")]
    assert codes(content_of(other), [anchor(lines[:4])]) == [("spliced", 3)]


def test_a_line_of_another_history_does_not_fit():
    lines = chain_of(5)
    other = [*lines[:2], sign(KEY, "reserved", {"round": 99}, after=lines[:2], at="later")]
    assert codes(content_of([*other, *lines[3:]])) == [("spliced", 3)]


def test_a_torn_last_line_is_named():
    lines = chain_of(3)
    assert codes(content_of(lines)[:-10], [anchor(lines[:2])]) == [("torn", 2)]


@given(st.data())
def test_no_change_of_any_byte_goes_unseen(data):
    lines = chain_of(3)
    content = content_of(lines)
    place = data.draw(st.integers(0, len(content) - 1))
    other = data.draw(st.characters(codec="utf-8").filter(lambda c: c != content[place]))
    changed = content[:place] + other + content[place + 1 :]
    assert verify(KEY, changed, [anchor(lines)])[1]


@given(st.text())
def test_whatever_stands_there_is_read_or_refused(text):
    assert read(KEY, text) is None
