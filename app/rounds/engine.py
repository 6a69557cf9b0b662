"""How a run's rounds deal with hospitals that are late, fail, or send what does not fit: the server's own settings."""

from dataclasses import dataclass, replace

from strategies.course import Course
from strategies.gate import Gate


@dataclass(frozen=True)
class Engine:
    """See `strategies.course` and `strategies.gate`, where each setting is used.

    Raises PartError or ValueError for a value out of range.
    """

    max_staleness: int = 0
    strikes: int = 3
    bench: int = 3
    norm_ratio: float | None = 4.0
    """None: updates are not compared with each other."""

    def __post_init__(self) -> None:
        Gate(self.norm_ratio)
        for name, least in (("max_staleness", 0), ("strikes", 1), ("bench", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"engine.{name}: got {getattr(self, name)}; write {least} or more")

    def steer(self, course: Course) -> Course:
        """The course under these settings."""
        return replace(
            course,
            max_staleness=self.max_staleness,
            strikes=self.strikes,
            bench=self.bench,
            gate=Gate(self.norm_ratio),
        )
