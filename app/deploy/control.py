"""Flower's control API, spoken to on loopback: who is registered, which runs there are.

The `flwr` command does the same at two seconds of imports a call.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.deploy.coordinator import Coordinator
from app.deploy.errors import DeployError

if TYPE_CHECKING:
    from flwr.supercore.control import ControlHttpClient

GONE = ("unregistered", "deleted")


@dataclass(frozen=True)
class Node:
    """A SuperNode as the SuperLink knows it."""

    id: int
    name: str
    key: bytes
    status: str
    since: str
    """When it last came or went, ISO 8601; empty where it never came."""

    @property
    def is_online(self) -> bool:
        return self.status == "online"


@dataclass(frozen=True)
class FlowerRun:
    """A run as the SuperLink knows it."""

    id: int
    status: str
    """pending, starting, running, finished:completed, finished:failed or finished:stopped."""
    bundle: str
    run_dir: str

    @property
    def is_over(self) -> bool:
        return self.status.startswith("finished")


@dataclass(frozen=True)
class Control:
    """An open connection to a running SuperLink."""

    client: "ControlHttpClient"

    def nodes(self) -> list[Node]:
        """All that are registered now."""
        from flwr.proto.control_pb2 import ListNodesRequest

        listed = self.client.ListNodes(ListNodesRequest()).nodes_info
        return [_node(info) for info in listed if info.status not in GONE]

    def register(self, name: str, key: bytes) -> int:
        """Let a key in. Returns its node id."""
        from flwr.proto.control_pb2 import RegisterNodeRequest

        return int(self.client.RegisterNode(RegisterNodeRequest(public_key=key, name=name)).node_id)

    def unregister(self, node: int) -> None:
        """Shut a node out; its next request is answered 401."""
        from flwr.proto.control_pb2 import UnregisterNodeRequest

        self.client.UnregisterNode(UnregisterNodeRequest(node_id=node))

    def runs(self) -> list[FlowerRun]:
        """All runs since the SuperLink started."""
        from flwr.proto.control_pb2 import ListRunsRequest

        return [_run(run) for run in self.client.ListRuns(ListRunsRequest()).run_dict.values()]

    def stop(self, run: int) -> None:
        """End a run."""
        from flwr.proto.control_pb2 import StopRunRequest

        self.client.StopRun(StopRunRequest(run_id=run))


@contextmanager
def control(coordinator: Coordinator) -> Iterator[Control]:
    """Connect to the coordinator's SuperLink.

    Raises:
        DeployError: it does not answer, or it refused what was asked.
    """
    import httpx
    from flwr.supercore.control import ControlHttpClient
    from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor

    client = ControlHttpClient.from_server_address(
        coordinator.superlink,
        insecure=False,
        root_certificates=coordinator.authority.certificate.read_bytes(),
        interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr")],
    )
    try:
        yield Control(client)
    except httpx.HTTPStatusError as error:
        raise DeployError(f"Flower's SuperLink refused: {' '.join(error.response.text.split())[:300]}") from error
    except httpx.HTTPError as error:
        raise DeployError(
            f"the coordinator is not running ({error}); start it: fedvox coordinator start {coordinator.folder}"
        ) from error
    finally:
        client.close()


def _node(info: Any) -> Node:
    since = info.last_activated_at if info.status == "online" else info.last_deactivated_at
    return Node(int(info.node_id), str(info.name), bytes(info.public_key), str(info.status), str(since or ""))


def _run(run: Any) -> FlowerRun:
    parts = (run.status.status, run.status.sub_status)
    run_dir = run.override_config["run-dir"].string if "run-dir" in run.override_config else ""
    return FlowerRun(int(run.run_id), ":".join(part for part in parts if part), str(run.fab_hash), run_dir)
