"""Who can be asked: hospital name → Flower node, asked anew each round, so that nodes may come and go."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from strategies import records

HELLO = f"{MessageType.QUERY}.hello"
"""Asks a node which hospital it is."""

STATISTICS = f"{MessageType.QUERY}.statistics"
"""Asks a hospital what its data measure."""

HELLO_SECONDS = 60.0

NODES = "FEDVOX_NODES"
"""An environment variable of the ServerApp where a coordinator of ours runs it: the file that says which enrolled
hospital each node is."""


@dataclass(frozen=True)
class Planned:
    """Simulation: the server's list of hospitals, spread over whatever nodes there are."""

    hospitals: Sequence[str]

    def __call__(self, grid: Grid) -> dict[str, int]:
        """The present assignment; empty where no node has come up yet."""
        nodes = sorted(grid.get_node_ids())
        return {name: nodes[i % len(nodes)] for i, name in enumerate(self.hospitals)} if nodes else {}


@dataclass(frozen=True)
class Introduced:
    """Deployment: each node says which hospital it is, once; names outside the list are not asked."""

    hospitals: Sequence[str]
    known: dict[int, str] = field(default_factory=dict)

    def __call__(self, grid: Grid) -> dict[str, int]:
        """The hospitals whose nodes are online now."""
        online = list(grid.get_node_ids())
        self._greet(grid, [node for node in online if node not in self.known])
        return {self.known[node]: node for node in online if self.known.get(node) in self.hospitals}

    def _greet(self, grid: Grid, strangers: Sequence[int]) -> None:
        content = RecordDict({"hello": ConfigRecord({})})
        messages = [Message(content=content, message_type=HELLO, dst_node_id=node) for node in strangers]
        for reply in grid.send_and_receive(messages, timeout=HELLO_SECONDS) if messages else ():
            if reply.has_content() and (hello := records.configs_of(reply.content).get("hello")):
                self.known[reply.metadata.src_node_id] = str(hello["hospital"])


@dataclass(frozen=True)
class Enrolled:
    """Deployment by a coordinator of ours: a node is the hospital whose registered key it proved to have."""

    hospitals: Sequence[str]
    nodes: Path

    def __call__(self, grid: Grid) -> dict[str, int]:
        """The hospitals whose nodes are online now."""
        names = json.loads(self.nodes.read_text(encoding="utf-8")) if self.nodes.exists() else {}
        return {names[str(node)]: node for node in grid.get_node_ids() if names.get(str(node)) in self.hospitals}


Roster = Planned | Introduced | Enrolled


def roster_of(kind: str, hospitals: Sequence[str]) -> Roster:
    """The roster that `deploy.roster` names: `plan` or `nodes`."""
    if kind == "plan":
        return Planned(hospitals)
    return Enrolled(hospitals, Path(nodes)) if (nodes := os.environ.get(NODES)) else Introduced(hospitals)
