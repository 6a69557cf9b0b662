"""What a hospital accepts, as its own site.yaml says; the coordinator's configuration is held against it.

policy:
  epsilon_cap: 8.0                # ε of all private runs together; the ledger holds it (app.site.budget)
  delta: 1.0e-5                   # at which ε is read, whatever δ a run has
  min_patients: 20                # training patients below which the hospital takes part in nothing
  accepted:                       # {}: anything, private or not
    unit: [patient]               # none, patient, sample, site; under a cap sample is taken only where it is listed
    mechanism: [dp-sgd]
    noise_min: 0.8                # noise multiplier
    rate_max: 0.2                 # sampling rate
    steps_max: 500                # of the whole run
    clip_max: 1.0
    epsilon_max: 4.0              # of one run

`steps_max` and `epsilon_max` are held against what is asked as well, by the ledger (`app.site.run_limits`): a round
that has to be asked once more, since too few answered, counts twice.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from app.privacy.terms import Terms
from app.site.run_limits import steps_of
from app.site.shield import Declined
from app.site.site_file import own_delta
from data.samples import ScanRef
from strategies.privacy.accountant import epsilon

LIMITS: Mapping[str, tuple[str, Callable[[Terms, float], float], bool]] = {
    "noise_min": ("noise multiplier", lambda terms, _: terms.noise, False),
    "rate_max": ("sampling rate", lambda terms, _: terms.part.sample_rate, True),
    "steps_max": ("number of steps", lambda terms, _: steps_of(terms.plan), True),
    "clip_max": ("clipping bound", lambda terms, _: terms.part.clip, True),
    "epsilon_max": ("ε", lambda terms, delta: epsilon(terms.plan, delta), True),
}
"""Limit → what it limits, how to read it from the terms and the hospital's δ, whether it is an upper one."""

CHOICES = ("unit", "mechanism")
FIELDS = (*CHOICES, *LIMITS)


def check_accepted(policy: Mapping[str, Any], unit: str, terms: Terms | None) -> None:
    """Raise Declined, with a code that names the first limit which the run does not keep.

    `unit` is the strategy's; `terms` are of private training and None where there is none.
    """
    for name, why in _broken(policy, unit, terms):
        raise Declined(f"policy-{name.replace('_', '-')}", why)


def check_enough(policy: Mapping[str, Any], patients: int) -> None:
    """Raise Declined where fewer patients train than the hospital wants to hide among."""
    if patients < (least := policy.get("min_patients") or 0):
        raise Declined("policy-min-patients", f"{patients} patients train here; the policy wants at least {least}")


def check_owned(terms: Terms | None, scans: Iterable[ScanRef]) -> None:
    """Raise Declined where patients are to be hidden and the data do not say whose some scans are."""
    if why := unowned(terms, scans):
        raise Declined("policy-patients-unknown", why)


def unowned(terms: Terms | None, scans: Iterable[ScanRef]) -> str:
    """Why patients cannot be the unit here; "" where they can, or are not.

    A person of two scans that nobody knows to be theirs would count as two, and be hidden half as well as promised.
    """
    if terms is None or terms.part.unit != "patient":
        return ""
    known = [scan.is_patient_known for scan in scans]
    if all(known):
        return ""
    return (
        f"{known.count(False)} of {len(known)} scans do not say whose they are, and ε is promised to patients; name "
        "them (LUNA16: patients.csv; cubes: the key patient), say source.one_scan_a_patient=true if that is so, or "
        "take strategy/privacy=sample, which promises less"
    )


def _broken(policy: Mapping[str, Any], unit: str, terms: Terms | None) -> Iterator[tuple[str, str]]:
    accepted = policy.get("accepted") or {}
    if unit == "sample" and "epsilon_cap" in policy and "unit" not in accepted:
        yield "unit", "the run promises ε to crops, and this hospital's cap is for patients; list the unit in accepted"
    mechanism = "none" if terms is None else terms.part.mechanism
    for name, got in (("unit", unit), ("mechanism", mechanism)):
        if name in accepted and got not in _listed(accepted[name]):
            yield name, f"the run's privacy {name} is {got!r}; this hospital accepts {accepted[name]}"
    for name, (what, read, is_upper) in LIMITS.items():
        value = None if terms is None or name not in accepted else read(terms, own_delta(policy))
        if name in accepted and not _keeps(accepted[name], value, is_upper=is_upper):
            said = "none" if value is None else f"{value:g}"
            yield name, f"the run's {what} is {said}; this hospital's limit {name} is {accepted[name]}"


def _keeps(limit: float, got: float | None, *, is_upper: bool) -> bool:
    """A run without private training keeps no limit."""
    return got is not None and (got <= limit if is_upper else got >= limit)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
