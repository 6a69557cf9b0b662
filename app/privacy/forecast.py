"""Before round 1 of a simulation: which hospitals' caps are too small for a single round, and what would do.

In a deployment the hospital's own log says it, and its answer is `budget-cap`: what it has spent is nobody else's.
"""

import math
from collections.abc import Iterator

from app.config import Config
from app.privacy.payment import Account
from app.privacy.terms import Terms, terms_of
from app.site.budget import BudgetError
from app.site.directory import open_site
from strategies.privacy.accountant import epsilon
from strategies.privacy.events import Event
from strategies.privacy.ledger import Ledger


def forecasts(config: Config) -> Iterator[str]:
    """A sentence for each hospital that would decline round 1 over its ledger."""
    terms = terms_of(config)
    if terms is None or terms.part.fixed_seed is not None:
        return
    for name in config["federation"]["hospitals"]:
        account = Account.of(open_site(config, name), config)
        try:
            yield from forecast(name, account.budget.read(), account.cap, account.delta, terms)
        except BudgetError as error:
            yield f"hospital {name} will take part in no round: {error}"


def forecast(name: str, ledger: Ledger | None, cap: float, delta: float, terms: Terms) -> Iterator[str]:
    """The sentence about one hospital; nothing where a round fits."""
    one, whole = (_after(ledger, events, delta) for events in (terms.round, terms.plan))
    if one > cap:
        yield (
            f"hospital {name} will take part in no round: its cap is ε {cap:g}; "
            f"the smallest with which one round fits is {_up(one)}, with which the whole run does {_up(whole)}"
        )


def _after(ledger: Ledger | None, events: tuple[Event, ...], delta: float) -> float:
    """ε once these are paid: by the plan where they are the first ever, or go on with it, else by the filter."""
    if ledger is None:
        return epsilon(events, delta)
    return ledger.after(events, delta, ledger.runs[0] if len(ledger.runs) == 1 else "")


def _up(value: float) -> str:
    """Rounded so that it does fit."""
    return f"{math.ceil(100 * value) / 100:.2f}"
