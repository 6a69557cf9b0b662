"""Updates travel as they are, inside Flower's own transport (TLS where it is configured)."""

from dataclasses import dataclass

from flwr.serverapp import Grid

from strategies.errors import PartError
from strategies.exchange.post import Post
from strategies.types import Encoded


@dataclass(frozen=True)
class Plain:
    """`poll_s`: how long to wait, at most, before asking Flower again for replies."""

    poll_s: float = 0.25
    shows_individual = True

    def __post_init__(self) -> None:
        if not 0 < self.poll_s <= 60:
            raise PartError(f"exchange plain: poll_s is in (0, 60] seconds, got {self.poll_s}")

    def open(self, grid: Grid) -> Post:
        return Post(grid, self.poll_s)

    def seal(self, encoded: Encoded) -> Encoded:
        return encoded

    def unseal(self, encoded: Encoded) -> Encoded:
        return encoded
