"""How sent: how updates get from the hospitals to the server, and what the server can see of each.

The plain exchange hands every hospital's update to the server. An exchange that masks updates shows the server their
sum alone; parts that look at single updates do not fit it (see `checks`).
"""

from typing import TYPE_CHECKING, Protocol

from strategies.types import Encoded

if TYPE_CHECKING:
    from flwr.serverapp import Grid

    from strategies.exchange.post import Post


class Exchange(Protocol):
    @property
    def shows_individual(self) -> bool:
        """Whether the server sees each hospital's update."""

    def open(self, grid: "Grid") -> "Post":
        """What sends and collects messages in this run."""

    def seal(self, encoded: Encoded) -> Encoded:
        """The hospital's half: an encoded update as it leaves the hospital."""

    def unseal(self, encoded: Encoded) -> Encoded:
        """The server's half: what came, back to an encoded update."""
