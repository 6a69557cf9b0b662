"""How Flower's own code waits for the parts of a message that has begun to come.

A message is handed out as soon as its sender has named its parts. flwr 1.41 looks for those that are missing after 1,
2, 4, 8, 10, 10 … s, so that a quick round is mostly waiting; and it does so until the upload was silent for three
minutes, so that one hospital that lost power while it sent keeps a round from its deadline.
"""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import ModuleType

OFTEN: Mapping[str, float | None] = {"initial_backoff": 0.1, "backoff_cap": 1.0, "max_tries_per_object": None}
"""Pauses in seconds; Flower's limit of two hours stays."""

GRID = "flwr.superlink.grid.http_grid"
"""Where a coordinator's grid finds `pull_objects`; not imported where a run is simulated in one process."""


def is_flowers(grid: object) -> bool:
    """Whether messages go through Flower's runtime, and not from hand to hand in one process."""
    return type(grid).__module__ == GRID


def look_often(module: ModuleType, name: str) -> None:
    """Have one of Flower's modules look often for what is missing; `name` is its function for that."""
    setattr(module, name, partial(getattr(module, name), **OFTEN))


@contextmanager
def given_up(at: float) -> Iterator[None]:
    """Within, Flower's grid looks often, and gives a reply up that is not whole at `at` (of `time.monotonic`)."""
    module = sys.modules.get(GRID)
    if module is None:
        yield
        return
    patient = vars(module)["pull_objects"]
    setattr(module, "pull_objects", partial(patient, max_time=max(at - time.monotonic(), 0.0), **OFTEN))  # noqa: B010
    try:
        yield
    finally:
        setattr(module, "pull_objects", patient)  # noqa: B010
