"""Before round 1 of a simulation: which hospitals' caps are too small for a round, or for the whole run; what would do.

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
    """A sentence for each hospital that would decline round 1, or the last thing it is asked, over its ledger."""
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
    """The sentence about one hospital; nothing where the whole run fits."""
    one, whole = (_after(ledger, events, delta) for events in (terms.round, terms.plan))
    if one > cap:
        yield (
            f"hospital {name} will take part in no round: its cap is ε {cap:g}; "
            f"the smallest with which one round fits is {_up(one)}, with which the whole run does {_up(whole)}"
        )
    elif whole > cap and not _goes_on(ledger, terms):
        yield (
            f"hospital {name} will decline before the end, the final scoring if not a round: its cap is ε {cap:g}; "
            f"the smallest with which the whole run fits is {_up(whole)}"
        )


def _after(ledger: Ledger | None, events: tuple[Event, ...], delta: float) -> float:
    """ε once these are paid: by the plan where they are the first ever, or go on with it, else by the filter."""
    if ledger is None:
        return epsilon(events, delta)
    return ledger.after(events, delta, ledger.runs[0] if len(ledger.runs) == 1 else "")


def _goes_on(ledger: Ledger | None, terms: Terms) -> bool:
    """Whether this may be the last run resumed: then part of the plan is paid, and the whole would be counted twice."""
    if ledger is None or not ledger.runs:
        return False
    last = ledger.runs[-1]
    return ledger.plan(last) == terms.plan and len(ledger.events(last)) < len(terms.plan)


def _up(value: float) -> str:
    """Rounded so that it does fit."""
    return f"{math.ceil(100 * value) / 100:.2f}"
