"""A Flower Grid in memory, and hospitals that answer by a function of the message."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from flwr.app import Error, Message
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from strategies import Course, Federated, records
from strategies.aggregate.mean import Mean
from strategies.exchange.plain import Plain as PlainExchange
from strategies.gate import Gate
from strategies.local.plain import Plain as PlainLocal
from strategies.privacy.none import NoPrivacy
from strategies.selection import All as Everybody
from strategies.server_opt import Sgd
from strategies.sharing import All as Everything
from strategies.types import Plan, Report, RoundFacts, ServerState, Stop, Tensors
from strategies.weighting import Size
from strategies.wire.raw import Raw

Handler = Callable[[Message], Message | None]
"""A hospital: None means that it never answers."""

SUPERLINK = 1
"""Flower's node id of the SuperLink, which is the source of its error replies."""


class Late:
    """A hospital whose answer comes `polls` pulls after it was asked."""

    def __init__(self, handler: Handler, polls: int) -> None:
        self.handler, self.polls = handler, polls


class FakeGrid(Grid):
    """Node id → hospital. Unknown nodes get no message id, as in Flower; dead ones an error from the SuperLink."""

    def __init__(self, nodes: Mapping[int, Handler | Late], dead: Iterable[int] = ()) -> None:
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 7, SUPERLINK
        self.nodes, self.dead = dict(nodes), set(dead)
        self.numbers = itertools.count()
        self.waiting: dict[str, list[Any]] = {}
        self.sent: list[Message] = []
        self.largest_pull = 0

    def set_run(self, run: Any) -> None: ...

    @property
    def run(self) -> Any:
        return None

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> list[int]:
        return sorted(self.nodes)

    def push_messages(self, messages: Iterable[Message]) -> list[str | None]:
        return [self._accept(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        ids = list(message_ids)
        self.largest_pull = max(self.largest_pull, len(ids))
        return [reply for key in ids if (reply := self._answer(key)) is not None]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        return self.pull_messages([key for key in self.push_messages(messages) if key])

    def _accept(self, message: Message) -> str | None:
        message.metadata.__dict__["_message_id"] = key = f"m{next(self.numbers)}"
        if message.metadata.dst_node_id not in self.nodes:
            return None
        node = self.nodes[message.metadata.dst_node_id]
        self.sent.append(message)
        self.waiting[key] = [message, node.polls if isinstance(node, Late) else 0]
        return key

    def _answer(self, key: str) -> Message | None:
        if key not in self.waiting:
            return None
        message, polls = self.waiting[key]
        if polls:
            self.waiting[key][1] -= 1
            return None
        node = self.nodes[message.metadata.dst_node_id]
        if message.metadata.dst_node_id in self.dead:
            del self.waiting[key]
            return _node_unavailable(message)
        reply = (node.handler if isinstance(node, Late) else node)(message)
        if reply is not None:
            del self.waiting[key]
        return reply


def _node_unavailable(message: Message) -> Message:
    reply = Message(Error(code=5, reason="Node unavailable"), reply_to=message)
    reply.metadata.__dict__["_src_node_id"] = SUPERLINK
    return reply


def silent(message: Message) -> None:
    """A hospital that never answers."""


def refusing(code: str) -> Handler:
    return lambda message: records.decline(message, code)


def raising(message: Message) -> Message:
    return Message(Error(code=2, reason="KeyError: 'patient 4711'"), reply_to=message)


@dataclass
class Hospital:
    """Answers each round with a fixed delta (or a function of plan and model), and remembers what it was asked."""

    delta: Tensors | Callable[[Plan, Tensors], Tensors]
    patients: int = 1
    facts: dict[str, Any] = field(default_factory=dict)
    control: Tensors = field(default_factory=dict)
    plans: list[Plan] = field(default_factory=list)
    models: list[Tensors] = field(default_factory=list)

    def __call__(self, message: Message) -> Message:
        plan, model = records.read_plan(message), records.read_model(message)
        self.plans.append(plan)
        self.models.append(model)
        delta = self.delta(plan, model) if callable(self.delta) else self.delta
        known = {"hospital": plan.hospital, "round": plan.round, "patients": self.patients, "crops": self.patients}
        report = Report(**{**known, "steps": 1, "loss": 0.5, **self.facts})
        return records.reply(message, {"values": delta}, report, self.control)


def federated(**parts: Any) -> Federated:
    plain = {
        "selection": Everybody(),
        "weighting": Size(),
        "local": PlainLocal(),
        "sharing": Everything(),
        "privacy": NoPrivacy(),
        "wire": Raw(),
        "exchange": PlainExchange(poll_s=0.01),
        "aggregate": Mean(),
        "server_opt": Sgd(),
    }
    return Federated(**{**plain, **parts})


def vector(*values: float) -> Tensors:
    return {"w": np.array(values, np.float32)}


PLAN = Plan(run="run", leg="", round=0, rounds=1, hospital="", seed=0, fold=-1)


def course(roster: Mapping[str, int], model: Tensors, **settings: Any) -> Course:
    """A course over a fixed roster, quick to give up, without comparison of sizes unless a gate is given."""
    rounds = settings.pop("rounds", 1)
    plain = {"deadline_s": 0.2, "wait_s": 0.0, "gate": Gate(norm_ratio=None)}
    return Course(replace(PLAN, rounds=rounds), lambda grid: roster, ServerState(0, model), **{**plain, **settings})


ZERO = vector(0, 0)


def run(
    hospitals: Mapping[str, Handler | Late],
    strategy: Federated | None = None,
    dead: Iterable[str] = (),
    **settings: Any,
) -> tuple[ServerState, Stop, list[RoundFacts], FakeGrid]:
    """One run over named hospitals (name → handler). Returns state, stop, the facts of each round, and the grid."""
    roster = {name: node for node, name in enumerate(hospitals, start=10)}
    grid = FakeGrid({roster[name]: handler for name, handler in hospitals.items()}, {roster[name] for name in dead})
    facts: list[RoundFacts] = []
    listener = settings.pop("after_round", lambda state, fact: None)

    def after_round(state: ServerState, fact: RoundFacts) -> Stop | None:
        facts.append(fact)
        return listener(state, fact)

    model = settings.pop("model", ZERO)
    state, stop = (strategy or federated()).run(grid, course(roster, model, after_round=after_round, **settings))
    return state, stop, facts, grid


def codes(facts: RoundFacts) -> dict[str, str]:
    return {refusal.hospital: refusal.code for refusal in facts.refused}


def drifting(plan: Plan, model: Tensors) -> Tensors:
    """A delta that depends on model and round, so that whatever is lost on the way shows."""
    return {"w": np.float32(0.1) * np.sin(model["w"] + plan.round)}
