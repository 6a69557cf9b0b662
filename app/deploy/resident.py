"""The resident worker: it has imported everything, takes task after task from the SuperNode, and forks for each.

`python -m app.deploy.resident DIR --address HOST:PORT --secret FILE`; `fedvox site start` runs it.

In the place of Flower's SuperExec, which would start an interpreter and import torch for every message. Flower's other
kinds of tasks (agents, models, connectors) are taken as well, and declined: unanswered, they would block the node. The
shared secret keeps other accounts of this machine from taking tasks; each task has a token of its own beside.

A message is answered in a child: what it allocates goes back, and a child that is killed takes nobody along.
"""

import argparse
import gc
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import httpx
from flwr.app import Message
from flwr.common.constant import SubStatus
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.retry import make_simple_http_retry_invoker
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime import run_clientapp
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

from app.config import ConfigError
from app.deploy import guard
from app.deploy.children import die_with_parent
from app.deploy.hospital import Hospital
from app.site import place
from app.site.place import Opening
from app.site.shield import Handler
from data.errors import DataError
from strategies.exchange.arrivals import look_often

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2
PROTECTED = ("/flwr.proto.Runtime/AcquireTask",)
"""What the SuperNode wants signed with the shared secret."""

LONGEST_SECONDS = 7 * 86400.0
"""No message is worked at for longer, whatever it allows."""

FAILED = 1


def main() -> int:
    """Serve until told to stop; ends when the process that started it does."""
    parser = argparse.ArgumentParser(prog="python -m app.deploy.resident", description="A hospital's worker.")
    parser.add_argument("dir", type=Path)
    parser.add_argument("--address", required=True)
    parser.add_argument("--secret", type=Path, required=True)
    args = parser.parse_args()
    die_with_parent(signal.SIGKILL)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    app = load()
    look_often(run_clientapp, "pull_and_inflate_object_from_tree")
    gc.freeze()
    say("ready")
    serve(Hospital(args.dir), args.address, args.secret.read_bytes(), app)
    return 0


def load() -> Handler:
    """Import what answering needs. No CUDA context and no thread may come of it: children are forked."""
    import app.privacy.payment
    import app.site.introduction
    import app.site.work  # noqa: F401
    from app.client_app import app as client_app

    return client_app


def serve(hospital: Hospital, address: str, secret: bytes, app: Handler) -> None:
    """Answer task after task, one at a time, as the SuperNode hands them out."""
    held: Opening | None = None
    with _client(address, SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=PROTECTED)) as client:
        while True:
            kind, token = _acquired(client)
            if token:
                asked = app if kind == TaskType.CLIENT_APP else guard.other_task
                opened = in_child(partial(answer, hospital, address, token, asked))
                held = hold(held, opened) if opened is not None else held
            else:
                time.sleep(POLL_SECONDS)


def answer(hospital: Hospital, address: str, token: str, app: Handler) -> Opening | None:
    """Pull one task's message, answer it, write that down, and only then let the answer go."""
    with _client(address, RuntimeTokenHttpInterceptor(token)) as client:
        heartbeat = HeartbeatSender(make_task_heartbeat_fn_http(client))
        heartbeat.start()
        message, context, _, bundle = pull_task_input(client)
        _end_with(message)
        say(guard.beginning(message))
        answered = guard.settled(hospital, guard.respond(hospital, app, message, context, bundle.content))
        push_message(client, answered.reply, context)
        push_task_output(client, context=context, sub_status=SubStatus.COMPLETED, details="")
        say(guard.line(answered))
        heartbeat.stop()
        return answered.opening


def hold(held: Opening | None, opened: Opening) -> Opening | None:
    """Keep open what a child opened, so that the next one finds it so; what another run opened is closed first.

    The child has read headers, labels and cache already, so that nothing is computed here.
    """
    if held == opened:
        return held
    if held is None or held.run != opened.run:
        place.forget()
    try:
        opened.hold()
    except (ConfigError, DataError, OSError) as error:
        log.warning("nothing is kept open: %s", error)
        return None
    return opened


def say(text: str) -> None:
    """A line for the hospital's console."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _client(
    address: str, *interceptors: SuperExecAuthHttpInterceptor | RuntimeTokenHttpInterceptor
) -> RuntimeHttpClient:
    return RuntimeHttpClient.from_server_address(
        server_address=address,
        insecure=True,
        root_certificates=None,
        interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr-clientapp"), *interceptors],
        retry_invoker=make_simple_http_retry_invoker(),
    )


def _acquired(client: RuntimeHttpClient) -> tuple[str, str]:
    """A task's kind and token; both empty where none waits."""
    try:
        got = client.AcquireTask(AcquireTaskRequest(supported_task_types=list(TaskType)))
    except httpx.TransportError as error:
        log.warning("the SuperNode does not answer: %s", error)
        time.sleep(1)
        return "", ""
    return (got.task.type, got.token) if got.HasField("task") else ("", "")


def in_child(work: Callable[[], Opening | None]) -> Opening | None:
    """Do `work` in a process of its own; what it opened, or None. Whatever becomes of it, this process goes on."""
    sys.stdout.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _work_and_exit(work, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        opened = told.read()
    _, status = os.waitpid(child, 0)
    if code := os.waitstatus_to_exitcode(status):
        why = {-signal.SIGKILL: "killed, perhaps for want of memory", -signal.SIGALRM: "past the round's deadline"}
        say(f"a message was not answered: its worker ended with {code} ({why.get(code, 'see logs/hospital.log')})")
        return None
    return Opening(**json.loads(opened)) if opened else None


def _work_and_exit(work: Callable[[], Opening | None], writing: int) -> None:
    code = FAILED
    try:
        die_with_parent(signal.SIGKILL)
        if (opened := work()) is not None:
            os.write(writing, json.dumps(asdict(opened)).encode())
        code = 0
    except Exception:
        log.exception("a message was not answered")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Not sys.exit: the parent's clean-up is the parent's.
        os._exit(code)


def _end_with(message: Message) -> None:
    """When nobody waits for the answer any more, the child ends: a dead run leaves no worker behind."""
    left = message.metadata.created_at + message.metadata.ttl - time.time()
    signal.alarm(int(min(max(left, 0.0), LONGEST_SECONDS)) + 1)


if __name__ == "__main__":
    sys.exit(main())
