"""Which state is delivered."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.rounds.best import Best, best_of
from strategies.types import ServerState


def state(round):
    return ServerState(round, {"w": np.full(3, round, np.float32)}, facts={"round": round})


def follow(folder, values, start=0, before=()):
    """As a leg does; returns the chooser and all values."""
    best, known = Best(folder, state(start)), list(before)
    for value in values:
        known.append(value)
        best.keep(known, state(len(known)))
        best.tidy(known)
    return best, known


def files(folder):
    return [path.name for path in sorted(folder.glob("*"))]


@pytest.mark.parametrize(
    ("values", "last", "round"),
    [
        ([0.5, 0.7, 0.6], 0.6, 1),  # line 2 scored the state after round 1
        ([0.5, 0.7, 0.6], 0.8, 3),  # the last state is the best of all
        ([0.5, 0.7, 0.7], 0.7, 1),  # of equals the first
        ([0.5, None, 0.6], None, 2),
        ([None, None], 0.9, 2),
        ([], None, 0),
    ],
)
def test_the_state_that_scored_best_is_delivered(tmp_path, values, last, round):
    best, known = follow(tmp_path, values)
    assert best.choose(known, state(len(known)), last).round == round


def test_one_state_is_on_disk_beside_the_checkpoint(tmp_path):
    follow(tmp_path, [0.5, 0.7, 0.6, 0.9, 0.1])
    assert files(tmp_path) == ["best-00003.safetensors"]


@given(values=st.lists(st.one_of(st.none(), st.sampled_from([0.5, 0.6, 0.7])), max_size=8), cut=st.integers(0, 8))
def test_a_resumed_leg_delivers_what_an_undisturbed_one_does(tmp_path_factory, values, cut):
    whole, known = follow(tmp_path_factory.mktemp("whole"), values)
    folder = tmp_path_factory.mktemp("cut")
    cut = min(cut, len(values))
    first, before = follow(folder, values[:cut])
    if cut < len(values):  # killed after the best was written, before the checkpoint was
        first.keep([*before, values[cut]], state(cut + 1))
    again, known_again = follow(folder, values[cut:], start=cut, before=values[:cut])
    assert known == known_again
    one, other = (best.choose(known, state(len(known)), None) for best in (whole, again))
    assert one.round == other.round
    np.testing.assert_array_equal(one.model["w"], other.model["w"])


def test_a_spoiled_file_means_the_last_state_and_is_said(tmp_path, caplog):
    best, known = follow(tmp_path, [0.9, 0.5])
    (tmp_path / "best-00000.safetensors").write_bytes(b"torn")
    assert best.choose(known, state(2), 0.6).round == 2
    assert "the last state is delivered instead" in caplog.text


def test_the_best_of_nothing_is_nothing():
    assert best_of([]) is None
    assert best_of([None]) is None
