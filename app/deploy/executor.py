"""Flower's SuperExec, which starts each run's ServerApp: started by us, and started again where it ended.

flwr 1.41's SuperLink would start one by itself and never look after it. It ends for good at the first question at which
the SuperLink fails (supercore/superexec/run_superexec.py), on a full disk for example, and no run would ever begin.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from subprocess import Popen

AGAIN_SECONDS = 10.0
"""From one start to the next, however soon it ends."""

STEADY_SECONDS = 60.0
"""What lived this long is well again."""

ENDED = "Flower's SuperExec ended and was started again; a run that was going on may have failed: resume it"


@dataclass
class Executor:
    """A SuperExec that goes on."""

    start: Callable[[], Popen[bytes]]
    process: Popen[bytes] = field(init=False)
    _began: float = field(init=False)
    _is_ailing: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self._begin()

    def revive(self) -> str:
        """Start it again where it ended. Returns what is new of it; one that ends again and again is news once."""
        lived = time.monotonic() - self._began
        if self.process.poll() is None:
            self._is_ailing = self._is_ailing and lived < STEADY_SECONDS
            return ""
        if lived < AGAIN_SECONDS:
            return ""
        was_ailing, self._is_ailing = self._is_ailing, True
        self._begin()
        return "" if was_ailing else ENDED

    def _begin(self) -> None:
        self.process, self._began = self.start(), time.monotonic()
