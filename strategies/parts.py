"""The nine parts of a federated algorithm, by name."""

from typing import Protocol

from strategies.aggregate import Aggregate
from strategies.exchange import Exchange
from strategies.local import Local
from strategies.privacy import Privacy
from strategies.selection import Selection
from strategies.server_opt import ServerOpt
from strategies.sharing import Sharing
from strategies.weighting import Weighting
from strategies.wire import Wire

NAMES = ("selection", "weighting", "local", "sharing", "privacy", "wire", "exchange", "aggregate", "server_opt")


class Parts(Protocol):
    """Whatever has the nine: who, how much, what is learned, what leaves, how private, small, sent, combined, used."""

    selection: Selection
    weighting: Weighting
    local: Local
    sharing: Sharing
    privacy: Privacy
    wire: Wire
    exchange: Exchange
    aggregate: Aggregate
    server_opt: ServerOpt
