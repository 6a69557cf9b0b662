"""Flower's Grid in one process: the same two apps, no server, no Ray. For tests, sweeps and `--engine inprocess`.

A message is answered the moment it is pulled, by calling the ClientApp; so hospitals train one after the other, in
the order they were asked, and a run repeats bit for bit. An exception of the ClientApp becomes an error reply, as
Flower's runtime would make it.
"""

import itertools
from collections.abc import Callable, Iterable
from logging import getLogger

from flwr.app import Context, Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

log = getLogger(__name__)

Client = Callable[[Message, Context], Message]
RunConfig = dict[str, bool | float | int | str]


class LocalGrid(Grid):
    """`nodes` nodes that all run `client` in this process.

    Each node keeps its own Flower context, as a SuperNode would for the length of a run.
    """

    def __init__(self, client: Client, *, nodes: int, run_config: RunConfig, run_id: int = 1) -> None:
        self._client = client
        self._run_id = run_id
        # Flower's launcher tells a process who it is; messages read it from here.
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, run_id, 0
        self._waiting: dict[str, Message] = {}
        self._numbers = itertools.count(1)
        self._contexts = {
            node: Context(run_id=run_id, node_id=node, node_config={}, state=RecordDict(), run_config=run_config)
            for node in range(1, nodes + 1)
        }

    def set_run(self, run: Run) -> None:
        """Flower's launcher names the run; here it is fixed."""

    @property
    def run(self) -> Run:
        """Flower's description of the run."""
        raise NotImplementedError("a run in one process has no SuperLink that describes it")

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A message to one node."""
        return Message(content=content, message_type=message_type, dst_node_id=dst_node_id, group_id=group_id, ttl=ttl)

    def get_node_ids(self) -> list[int]:
        """All nodes; they never go away."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Take messages in; they are answered when pulled."""
        return [self._accept(message) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Answer the first waiting message of those asked for: one at a time, so that replies can be streamed."""
        for message_id in message_ids:
            if (message := self._waiting.pop(message_id, None)) is not None:
                return [self._answer(message)]
        return []

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Push, then answer all."""
        pushed = self.push_messages(messages)
        return [reply for _ in pushed for reply in self.pull_messages(pushed)]

    def _accept(self, message: Message) -> str:
        # As Flower's own grids do. A counter, since hashing 100 MB of model for a name is slow.
        message_id = f"local-{next(self._numbers)}"
        message.metadata.__dict__.update(_run_id=self._run_id, _message_id=message_id)
        self._waiting[message_id] = message
        return message_id

    def _answer(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, self._run_id, node
        try:
            return self._client(message, self._contexts[node])
        except Exception as error:
            log.exception("the client app of node %s failed", node)
            return Message(
                Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=type(error).__name__), reply_to=message
            )
