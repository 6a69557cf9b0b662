"""Whether a hospital's ledger went back while others were told of it.

Each private answer says how long the ledger was when it was reserved, and the mac of its last line ("LENGTH:MAC").
Ledgers only grow, and an answer that is sent again says what it said before. So an answer with a shorter ledger than an
earlier one, or with as long a ledger that ends otherwise, comes from a ledger that was cut or restored: budget that was
spent is offered again. The hospital's own disk cannot show that where its anchor was restored too.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from strategies.privacy.chain import Anchor

CODE = "ledger-rolled-back"


@dataclass(frozen=True)
class Rollback:
    """One answer whose ledger does not follow from what the same hospital said before."""

    hospital: str
    round: int
    said: Anchor
    before: Anchor
    """The longest ledger that it had told of."""

    def __str__(self) -> str:
        how = "ends otherwise now" if self.said.length == self.before.length else "was longer before"
        return (
            f"{CODE}: the ledger of {self.hospital} has {self.said.length} lines in round {self.round} and {how} "
            f"({self.before.length} lines): cut, or an older copy restored; ask there before its next round"
        )


def told(lines: Iterable[Mapping[str, Any]], hospital: str) -> Iterator[tuple[int, Anchor]]:
    """What a journal remembers of a hospital's ledger: (round, length and head), as it came."""
    for line in lines:
        length, _, head = str(line["reports"].get(hospital, {}).get("ledger", "")).partition(":")
        if length:
            yield int(line["round"]), Anchor(int(length), head)


def rolled_back(lines: Sequence[Mapping[str, Any]]) -> Iterator[Rollback]:
    """Every ledger that went back during a journal, by hospital. Nothing where training is not private."""
    for hospital in sorted({name for line in lines for name in line["reports"]}):
        longest = Anchor(0, "")
        for round, said in told(lines, hospital):
            if said.length < longest.length or (said.length == longest.length and said.head != longest.head):
                yield Rollback(hospital, round, said, longest)
            longest = max(longest, said, key=lambda anchor: anchor.length)
