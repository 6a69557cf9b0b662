import pytest

from app.rounds.workers import WorkerDied, unharmed
from strategies.types import Refusal, RoundFacts, ServerState, Stop

STATE = ServerState(3, {})


def facts(*codes):
    refused = tuple(Refusal(hospital, 3, code) for hospital, code in zip("ABC", codes, strict=False))
    return RoundFacts(
        round=3, seconds=1.0, asked=("A", "B"), reports={}, weights={}, norms={}, bytes_down={}, bytes_up={},
        refused=refused, failed="",
    )  # fmt: skip


def test_a_round_that_a_workers_death_spoiled_is_neither_journalled_nor_saved():
    seen = []
    with pytest.raises(WorkerDied, match=r"^round 3: .* hospital B .*--resume$"):
        unharmed(lambda state, facts: seen.append(facts))(STATE, facts("app-raised", "failed"))
    assert seen == []


@pytest.mark.parametrize("codes", [(), ("app-raised", "timeout", "node-unavailable")])
def test_hospitals_that_fail_by_themselves_are_the_round_engines_matter(codes):
    assert unharmed(lambda state, facts: Stop("target"))(STATE, facts(*codes)) == Stop("target")
