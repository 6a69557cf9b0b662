"""The arithmetic of federation: nine small parts, composed by `Federated`.

Why parts and not a class per algorithm: FedProx, SCAFFOLD, FedBN or Krum each differ from FedAvg in one answer out of
nine (who, how much, what is learned, what leaves, how private, how small, how sent, how combined, how applied). As
parts they combine without new code, and `checks` says which combinations make no sense.
"""

from typing import TYPE_CHECKING, Any

from strategies.course import Course

if TYPE_CHECKING:
    from strategies.federated import Federated

__all__ = ["Course", "Federated"]


def __getattr__(name: str) -> Any:
    """Import Flower only for those who ask for `Federated`: 1.4 s that reading a ledger or a journal need not pay."""
    if name == "Federated":
        from strategies.federated import Federated

        return Federated
    raise AttributeError(f"module 'strategies' has no attribute {name!r}")
