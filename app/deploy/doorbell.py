"""Whether the coordinator knows this hospital's key: connect as Flower's SuperNode does, and say good-bye at once."""

import httpx
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL
from flwr.proto.fleet_pb2 import ActivateNodeRequest, DeactivateNodeRequest
from flwr.supercore.error import FlowerError
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.protobuf.client import ProtobufClientInterceptor
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from app.deploy.errors import DeployError
from app.deploy.hospital import Hospital, Kit
from app.deploy.keys import read_key
from app.deploy.reach import tls


def is_let_in(hospital: Hospital, kit: Kit) -> None:
    """Return if the key is enrolled and no other process uses it. Raises DeployError with the coordinator's answer."""
    private = read_key(hospital.key)
    public = private.public_key()
    interceptors: list[ProtobufClientInterceptor] = [
        RuntimeVersionHttpInterceptor(component_name="SuperNode"),
        NodeAuthHttpInterceptor(private, public),
    ]
    request = ActivateNodeRequest(public_key=public_key_to_bytes(public), heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL)
    try:
        with FleetHttpClient(f"https://{kit.address}", interceptors=interceptors, verify=tls(hospital, kit)) as client:
            client.DeactivateNode(DeactivateNodeRequest(node_id=client.ActivateNode(request).node_id))
    except httpx.HTTPStatusError as error:
        raise DeployError(_words(error)) from error
    except httpx.HTTPError as error:
        raise DeployError(f"the coordinator does not answer: {error}") from error


def _words(error: httpx.HTTPStatusError) -> str:
    told = FlowerError.from_json(error.response.text)
    return f"[code: {told.code}] {told.message}" if told else str(error)
