"""What several runs cost together: choosing the best of many trials is itself a release of all of them.

The grid of a sweep is fixed before its first trial, so ε of all its trials together is by PLD. Whatever ran before or
comes later counts by the filter in the ledger, against the hospital's cap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.config import Config
from app.privacy.costs import releases
from app.privacy.payment import Account
from app.privacy.terms import terms_of
from app.rounds.folder import RunFolder
from app.site.directory import open_site
from strategies.privacy.accountant import epsilon
from strategies.privacy.events import Event


@dataclass(frozen=True)
class Together:
    """What one hospital paid for all runs of a list."""

    hospital: str
    epsilon: float
    delta: float
    spent: float | None = None
    """Over all runs there ever were, as it counts against the cap; None where no ledger is kept."""
    cap: float | None = None

    def sentence(self, runs: int) -> str:
        """For people."""
        text = f"{self.hospital}: all {runs} runs of this sweep together cost ε {self.epsilon:.2f} at δ {self.delta:g}"
        if self.cap is None or self.spent is None:
            return text
        return f"{text}; over all runs {self.spent:.2f} of its cap {self.cap:g} are spent"


def together(runs: Sequence[tuple[Config, RunFolder]]) -> list[Together]:
    """What the hospitals paid for these runs; empty where nothing private was done."""
    names = list(dict.fromkeys(name for config, _ in runs for name in config["federation"]["hospitals"]))
    made = [_by_ledger(name, runs) or _by_releases(name, runs) for name in names]
    return [one for one in made if one is not None]


def is_out_of_budget(summary: Mapping[str, Any]) -> bool:
    """Whether a run failed for want of budget alone."""
    codes = {one["code"] for row in summary["hospitals"].values() for one in row["refused"]}
    return summary["status"] == "failed" and codes == {"budget-cap"}


def _by_ledger(name: str, runs: Sequence[tuple[Config, RunFolder]]) -> Together | None:
    """From the ledger of a simulated hospital, which is on this machine."""
    private = [(config, folder) for config, folder in runs if terms_of(config) is not None]
    if not private:
        return None
    account = Account.of(open_site(private[0][0], name), private[0][0])
    if (ledger := account.budget.read()) is None:
        return None
    events: list[Event] = [event for _, folder in private for event in ledger.events(folder.run_name())]
    return Together(name, epsilon(events, account.delta), account.delta, ledger.spent(account.delta), account.cap)


def _by_releases(name: str, runs: Sequence[tuple[Config, RunFolder]]) -> Together | None:
    events = [
        event
        for config, folder in runs
        if name in config["federation"]["hospitals"]
        for event in releases(folder.released())
    ]
    delta = float(runs[0][0]["budget"]["delta"])
    return Together(name, epsilon(events, delta), delta) if events else None
