from dataclasses import dataclass

import numpy as np
import pytest

from strategies.gate import Gate
from strategies.privacy.none import NoPrivacy
from tests.strategies.fakes import Hospital, codes, federated, run, vector


@dataclass(frozen=True)
class Counting(NoPrivacy):
    """Clips to 1, caps factors at 2, and notes what it is asked to release."""

    unit = "site"
    counts_refused = True

    def bound(self, delta, state):
        length = np.linalg.norm(delta["w"])
        return {"w": delta["w"] / np.float32(max(1.0, length))}

    def factor(self, factor):
        return min(factor, 2.0)

    def release(self, mean, factors, state, norms):
        count = state.get("count", 0) + 1
        return mean, {"count": count}, {"factors": dict(factors), "count": count}


def test_a_privacy_part_clips_caps_and_releases_with_a_state_of_its_own():
    hospitals = {"A": Hospital(vector(3, 4), patients=9), "B": Hospital(vector(0, 0.5), patients=1)}
    state, _, facts, _ = run(hospitals, federated(privacy=Counting()), rounds=2)
    # each round: (2·[0.6, 0.8] + 1·[0, 0.5]) / 3 = [0.4, 0.7]
    np.testing.assert_allclose(state.model["w"], [0.8, 1.4], rtol=1e-6)
    assert [fact.privacy["count"] for fact in facts] == [1, 2]
    assert facts[0].privacy["factors"] == {"A": 2.0, "B": 1.0}
    assert state.facts["privacy"] == {"count": 2}


@pytest.mark.parametrize("bad", [vector(np.nan, 0), vector(0, 0), vector(1, 2, 3)])
def test_under_site_privacy_a_refused_update_counts_as_zero_and_keeps_its_weight(bad):
    hospitals = {"A": Hospital(vector(0, 1)), "B": Hospital(bad)}
    state, _, (facts,), _ = run(hospitals, federated(privacy=Counting()))
    np.testing.assert_allclose(state.model["w"], [0, 0.5])
    assert facts.weights == pytest.approx({"A": 0.5, "B": 0.5})
    assert set(codes(facts)) == {"B"}


def test_under_site_privacy_a_refused_update_leaves_quorum_and_attendance_as_they_were():
    def outcome(b):
        hospitals = {"A": Hospital(vector(0, 1)), "B": Hospital(b)}
        state, stop, facts, _ = run(hospitals, federated(privacy=Counting()), rounds=5, quorum=2, strikes=1)
        return stop, state.facts, [(f.asked, f.benched, f.failed, f.weights) for f in facts]

    assert outcome(vector(0, 0)) == outcome(vector(3, 4)) == outcome(vector(np.nan, 0))


def test_under_site_privacy_an_update_whose_bytes_cannot_be_read_counts_as_zero_too():
    def torn(message):
        reply = Hospital(vector(1, 1))(message)
        reply.content["delta"]["w"].data = b"torn"
        return reply

    state, _, (facts,), _ = run({"A": Hospital(vector(0, 1)), "B": torn}, federated(privacy=Counting()))
    assert codes(facts) == {"B": "malformed"}
    np.testing.assert_allclose(state.model["w"], [0, 0.5])


def test_under_site_privacy_updates_are_not_compared_with_one_another():
    hospitals = {name: Hospital(vector(0, 1)) for name in "ABCD"} | {"X": Hospital(vector(0, -1000))}
    _, _, (facts,), _ = run(hospitals, federated(privacy=Counting()), gate=Gate(norm_ratio=2))
    assert not facts.refused
