"""Whether a hospital's ledger went back while others were told of it.

Each private answer says how long the ledger was when it was reserved, and the mac of its last line ("LENGTH:MAC").
Ledgers only grow, and an answer that is sent again says what it said before. So an answer with a shorter ledger than
that of an earlier round, or with as long a ledger that ends otherwise, comes from a ledger that was cut or restored:
budget that was spent is offered again. The hospital's own disk cannot show that where its anchor was restored too.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from strategies.privacy.chain import Anchor

CODE = "ledger-rolled-back"

NOTHING = Anchor(0, "")


@dataclass(frozen=True)
class Rollback:
    """One answer whose ledger does not follow from what the same hospital said before."""

    hospital: str
    round: int
    said: Anchor
    before: Anchor
    """The longer one that it had told of before, or the one of this length that ended otherwise."""

    def __str__(self) -> str:
        how = "ends otherwise now" if self.said.length == self.before.length else "was longer before"
        return (
            f"{CODE}: the ledger of {self.hospital} has {self.said.length} lines in round {self.round} and {how} "
            f"({self.before.length} lines): cut, or an older copy restored; ask there before its next round"
        )


def told(lines: Iterable[Mapping[str, Any]], hospital: str) -> Iterator[tuple[Mapping[str, Any], Anchor]]:
    """What a journal remembers of a hospital's ledger: (line, length and head), as it came."""
    for line in lines:
        length, _, head = str(line["reports"].get(hospital, {}).get("ledger", "")).partition(":")
        if length:
            yield line, Anchor(int(length), head)


def rolled_back(lines: Sequence[Mapping[str, Any]]) -> Iterator[Rollback]:
    """Every ledger that went back during a journal, by hospital. Nothing where training is not private.

    Lengths are compared as long as the rounds of one model go up: rounds that came once more after a resume may stand
    before those that they followed.
    """
    for hospital in sorted({name for line in lines for name in line["reports"]}):
        yield from _of(hospital, told(lines, hospital))


def _of(hospital: str, every: Iterable[tuple[Mapping[str, Any], Anchor]]) -> Iterator[Rollback]:
    heads: dict[int, Anchor] = {}
    leg, round, longest = "", 0, NOTHING
    for line, said in every:
        if line["leg"] != leg or line["round"] <= round:
            longest = NOTHING
        leg, round = line["leg"], line["round"]
        same = heads.setdefault(said.length, said)
        if same != said or said.length < longest.length:
            yield Rollback(hospital, round, said, same if same != said else longest)
        longest = max(longest, said, key=lambda anchor: anchor.length)
