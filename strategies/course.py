"""What a run is, beside its algorithm: whom to ask, what for, how long to wait, where to begin, whom to tell."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from strategies.errors import PartError
from strategies.gate import Gate
from strategies.types import Plan, RoundFacts, Scalar, ServerState, Stop


def constant(round: int) -> float:
    """The learning rate's factor where there is no schedule."""
    return 1.0


def go_on(state: ServerState, facts: RoundFacts) -> Stop | None:
    """What is done after a round where nobody listens."""
    return None


@dataclass(frozen=True)
class Course:
    plan: Plan
    """The template: round and hospital are filled in for each message."""
    roster: Callable[[Any], Mapping[str, int]]
    """Flower's Grid → hospital → node id, asked anew each round: nodes come and go. Several may share a node."""
    initial: ServerState
    """Where to begin; after a resume, where the run was."""
    quorum: int = 1
    """How many updates a round needs; with fewer the model stays as it is."""
    deadline_s: float = 3600.0
    """How long a round waits for answers."""
    wait_s: float = 600.0
    """How long a round waits for `quorum` hospitals to be there."""
    after_round: Callable[[ServerState, RoundFacts], Stop | None] = go_on
    """Called after every round, failed ones too: checkpoint, journal, and decide whether to stop."""
    lr_scale: Callable[[int], float] = constant
    """Round → factor on the hospitals' learning rate."""
    kinds: Mapping[str, str] = field(default_factory=dict)
    """Tensor → kind, of the whole model; where empty, every tensor is of kind "other"."""
    max_staleness: int = 0
    """Answers up to this many rounds late are still used, with the weight their age gives them; 0 drops them."""
    gate: Gate = field(default_factory=Gate)
    strikes: int = 3
    """A hospital that fails this often in a row …"""
    bench: int = 3
    """… is left out for this many rounds, then asked again."""
    ask: Mapping[str, Scalar] = field(default_factory=dict)
    """Further scalars for every training request."""

    def __post_init__(self) -> None:
        least = {"quorum": 1, "deadline_s": 0, "wait_s": 0, "max_staleness": 0, "strikes": 1, "bench": 0}
        for name, low in least.items():
            if not getattr(self, name) >= low:
                raise PartError(f"course: {name} is at least {low}, got {getattr(self, name)}")

    def plan_for(self, hospital: str, round: int, *, score: bool, strength: float) -> Plan:
        """What one hospital is asked in one round."""
        return replace(
            self.plan,
            hospital=hospital,
            round=round,
            score=score or self.plan.score,
            lr_scale=self.lr_scale(round),
            strength=strength,
        )

    def kinds_of(self, model: Mapping[str, Any]) -> Mapping[str, str]:
        """Kind of every tensor of the model, in the model's order."""
        return {name: self.kinds.get(name, "other") for name in model}
