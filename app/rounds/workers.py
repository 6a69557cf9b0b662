"""A simulation's worker processes: where one of them dies, the run stops before the round that it spoiled.

Flower (1.41) puts a dead Ray worker back among the idle ones and hands it the next message, which fails at once. The
run would come to its end, but with a part of its hospitals missing from every round.
"""

from collections.abc import Callable, Iterable

from strategies.types import Refusal, RoundFacts, ServerState, Stop

AfterRound = Callable[[ServerState, RoundFacts], Stop | None]

NO_ANSWER = "failed"
"""What Flower's error of unknown kind is called here: in a simulation, the process did not live to answer."""


class WorkerDied(RuntimeError):
    """A process of Flower's simulation is gone."""


def check_alive(refused: Iterable[Refusal], during: str) -> None:
    """Raise WorkerDied where a hospital did not answer for want of a process."""
    if without := [refusal.hospital for refusal in refused if refusal.code == NO_ANSWER]:
        raise WorkerDied(
            f"{during}: a process of Flower's simulation died while it worked for hospital {without[0]} (killed, or "
            "out of memory: a larger deploy.client_cpus lets fewer work at once); this does not count, go on with "
            "--resume"
        )


def unharmed(after_round: AfterRound) -> AfterRound:
    """`after_round`, for rounds that no worker's death has spoiled.

    What it gives raises WorkerDied where one has, before the round is journalled or saved: a resumed run repeats it.
    """

    def listen(state: ServerState, facts: RoundFacts) -> Stop | None:
        check_alive(facts.refused, f"round {facts.round}")
        return after_round(state, facts)

    return listen
