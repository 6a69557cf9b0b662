"""Flower's SuperNode as it is, asking more often while a run is under way: `python -m app.deploy.node ARGS…`.

flwr 1.41 asks its SuperLink for messages every 3 s and looks for a finished answer every 0.5 s, both fixed in the
code. A round of a small model would wait most of its time. Here both are short for a while after a message, and
Flower's own after that, so that hospitals without work do not load the coordinator.
"""

import signal
import time
from dataclasses import dataclass
from types import SimpleNamespace

from app.deploy.children import die_with_parent

ASKING_S, QUICK_ASKING_S = 3.0, 0.5
"""Flower's pause between questions, and ours while a run is under way."""

WAITING_S = 0.1
"""Between looks for a finished answer."""

UNDER_WAY_S = 120.0
"""So long after a message another one is expected."""


@dataclass
class Pauses:
    """Sleeps in Flower's place."""

    active: float = float("-inf")

    def sleep(self, seconds: float) -> None:
        """As Flower asks for, or shorter."""
        now = time.monotonic()
        if seconds < ASKING_S:
            self.active = now
            time.sleep(min(seconds, WAITING_S))
        else:
            time.sleep(QUICK_ASKING_S if now - self.active < UNDER_WAY_S else seconds)


def main() -> None:
    """Run `flower-supernode` with this process's arguments; it says good-bye to the coordinator if our parent ends."""
    die_with_parent(signal.SIGTERM)
    from flwr.supernode import start_client_internal
    from flwr.supernode.cli.flower_supernode import flower_supernode

    # The module's name for the clock, in that module alone.
    setattr(start_client_internal, "time", SimpleNamespace(sleep=Pauses().sleep))  # noqa: B010
    flower_supernode()


if __name__ == "__main__":
    main()
