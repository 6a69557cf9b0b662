"""privacy.md of a run: for the officer who wants to know what was promised, to whom, and what it rests on."""

from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any

from app.config import Config
from app.privacy.costs import releases
from app.privacy.rollback import rolled_back
from app.privacy.terms import Terms, terms_of
from strategies.privacy.events import SYSTEM, Event, NaiveRelease, SiteRelease

PATIENTS_FOR_AN_EPSILON = 1000.0
"""Training patients a hospital should have at ε 1; at ε 3.2 a third of that. Measured on phantoms: 3,000 patients in
three hospitals lose 0.01 of AUC at ε 3.2, 374 lose everything at ε 2 (docs/privacy.md)."""

COVERED = {
    "patient": "all scans and crops of one patient in one hospital, in every update and score that left it",
    "sample": "one crop, in every update and score that left the hospital; a patient of n is protected n times less",
    "site": "what one hospital's data contributed to the models; trusted until the noise is added: the coordinator",
}
NOT_COVERED = {
    "patient": "that the hospital took part, how many patients it has, when it answered; a patient who is in two "
    "hospitals, or under two ids in one, pays for each by itself",
    "sample": "whether a patient is there at all; counts of patients and crops, and when the hospital answered",
    "site": "that the hospital took part; rows of the journal, norms and scores, which stay with the coordinator",
}
NEIGHBOUR = {
    "patient": "the patient contributes zero everywhere; the number of patients, the rate and the steps are public",
    "sample": "the crop contributes zero everywhere; the number of crops, the rate and the steps are public",
}
WHO = (
    "whoever has an id of their own in the hospital's data; a hospital whose data tell no ids declines, unless its own "
    "file says that each scan is one patient (one_scan_a_patient)"
)


def page(config: Config, lines: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> str:
    """The page as Markdown."""
    return (
        "\n".join([*_head(config, lines), "", *_table(summary), "", *_warned(config, lines, summary), *_foot()]) + "\n"
    )


def warnings(config: Config, lines: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> list[str]:
    """What a reader of the table must know to read it right; the console says it too."""
    if (terms := terms_of(config)) is None:
        return [*_of_releases(lines)]
    return [*_of_terms(terms, lines, summary), *map(str, rolled_back(lines))]


def section(config: Config, lines: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> dict[str, Any]:
    """The page's facts and warnings for scripts; ε of each hospital stands in its own row. {} where nothing ran."""
    if not (facts := _facts(config, lines)):
        return {}
    return {
        **{name.replace(" ", "_"): value for name, value in facts.items()},
        "warnings": warnings(config, lines, summary),
    }


def _facts(config: Config, lines: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What was promised and done, by its name on the page; {} where no mechanism ran."""
    if (terms := terms_of(config)) is not None:
        return _private_facts(terms)
    return _server_facts(lines) if releases(lines) else {}


def _head(config: Config, lines: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "# Privacy of this run\n"
    if not (facts := _facts(config, lines)):
        yield "No privacy mechanism ran. No noise was added, no ε is claimed, and updates may tell about patients."
        return
    yield "| | |\n|---|---|"
    yield from (f"| {name} | {value} |" for name, value in facts.items())


def _private_facts(terms: Terms) -> dict[str, str]:
    part = terms.part
    return {
        "unit": part.unit,
        "neighbouring data": NEIGHBOUR[part.unit],
        "covered": COVERED[part.unit],
        "not covered": NOT_COVERED[part.unit],
        **({"who is a patient": WHO} if part.unit == "patient" else {}),
        "trusted": "the hospital itself, nobody else",
        "mechanism": f"DP-SGD: Poisson draws of rate {part.sample_rate:g}, {part.steps_a_round} steps in each of "
        f"{terms.rounds} rounds, fixed denominator",
        "clipping bound": f"{part.clip:g} (L2, of one unit's gradient)",
        "noise multiplier": f"{terms.noise:.4f}",
        "evaluation": f"one noised histogram of {terms.bins} bins a class for validation and one for test patients, "
        f"standard deviation {terms.score_noise:.3f}; where the test bins lie is read from the noised validation",
        "randomness": _origin(part.randomness.origin),
        "accountant": _accountant(),
        "amplification": "by the secret draw of units inside the hospital; none by sampling hospitals",
    }


def _server_facts(lines: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    made = releases(lines)
    last = made[-1]
    adjacency = last.adjacency if isinstance(last, SiteRelease) else "zero-out"
    return {
        "unit": last.unit,
        "neighbouring data": f"{adjacency}: the hospital's update is zero in every round",
        "covered": COVERED["site"],
        "not covered": NOT_COVERED["site"],
        "mechanism": f"{last.kind}: clipped updates, weighed, Gaussian noise, {len(made)} releases",
        "clipping bound": _between([getattr(event, "clip", None) or 0.0 for event in made], "g") or "none",
        "noise multiplier": _between([event.noise_multiplier for event in made], ".4f") or "none",
        "weights used": f"{'; '.join(_weights(made))} (each release's: rounds.jsonl, privacy.weights)",
        "randomness": _origin(last.randomness),
        "accountant": _accountant(),
        "amplification": "none: few hospitals, and all of them are asked",
    }


def _weights(made: Sequence[Event]) -> Iterator[str]:
    """Each hospital's least and largest weight, and in how many releases it had one: the noise followed the largest."""
    used: list[Mapping[str, float]] = [getattr(event, "weights", {}) for event in made]
    for name in sorted({name for weights in used for name in weights}):
        own = [weights[name] for weights in used if name in weights]
        yield f"{name} {_between(own, '.3f')} in {len(own)} of {len(used)}"


def _between(values: Sequence[float], digits: str) -> str:
    """The least and the largest where they differ as they are shown; "" where all are 0."""
    low, high = format(min(values), digits), format(max(values), digits)
    return "" if not any(values) else low if low == high else f"{low}–{high}"


def _table(summary: Mapping[str, Any]) -> Iterator[str]:
    yield "| hospital | ε of this run | δ | cap | spent of the cap | rounds | not in the run |"
    yield "|---|---|---|---|---|---|---|"
    for name, row in summary["hospitals"].items():
        paid = row["privacy"] or {}
        out = ", ".join(_ranges(row["refused"])) or "–"
        cells = [_number(paid.get(key), digits) for key, digits in DIGITS.items()]
        yield f"| {name} | {' | '.join(cells)} | {row['rounds']} | {out} |"


DIGITS = {"epsilon": ".2f", "delta": "g", "cap": "g", "spent": ".2f"}


def _ranges(refused: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Since when, by code."""
    for code in dict.fromkeys(one["code"] for one in refused):
        rounds = [one["round"] for one in refused if one["code"] == code]
        yield f"{code} since round {min(rounds)}"


def _warned(config: Config, lines: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> Iterator[str]:
    if said := warnings(config, lines, summary):
        yield "## Warnings\n"
        yield from (f"* {text}" for text in said)
        yield ""


def _of_terms(terms: Terms, lines: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> Iterator[str]:
    if terms.part.fixed_seed is not None:
        yield "fixed seed: draws and noise can be foretold, so no ε is claimed"
        return
    needed = PATIENTS_FOR_AN_EPSILON / terms.promised
    for name, row in summary["hospitals"].items():
        trained = _trained(name, lines)
        if 0 < trained < needed:
            yield (
                f"{name} trains on {trained} patients: too few for ε {terms.promised:.1f}; below about {needed:.0f} "
                "the noise outweighs what is learned"
            )
        # Of a hospital that did not score the model only its training patients are known: at least so many.
        patients, delta = row["patients"] or trained, (row["privacy"] or {}).get("delta") or terms.part.delta
        if patients and delta >= 1 / patients:
            yield f"δ {delta:g} is not below 1/{patients}: it may give a patient of {name} away whole"
    if terms.part.unit == "sample":
        yield "the unit is one crop: patients with several crops are protected less than ε says"


def _trained(name: str, lines: Sequence[Mapping[str, Any]]) -> int:
    """The most patients that a hospital said it trained on, in any round of any model; 0 where it trained in none."""
    return max((line["reports"][name]["patients"] for line in lines if name in line["reports"]), default=0)


def _of_releases(lines: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    made = releases(lines)
    if not made:
        return
    if any(event.randomness != SYSTEM for event in made):
        yield "fixed seed: the noise can be foretold, so no ε is claimed"
    if naive := [event for event in made if isinstance(event, NaiveRelease)]:
        claimed = "nothing" if naive[-1].claimed_epsilon is None else f"ε {naive[-1].claimed_epsilon:g}"
        yield f"{naive[-1].formula} is a formula in circulation, for comparison: it claims {claimed}; see the table"
        if naive[-1].clip is None:
            yield "no clipping: one update may be of any size, and no noise hides it"
    yield "no amplification: every hospital's noise counts in full in every round"


def _foot() -> Iterator[str]:
    yield "ε of several hospitals that hold the same patient add up. Timing is not covered. Gaussian noise in floating"
    yield "point is not exact (Mironov 2012). What was spent over all runs stands in each hospital's own ledger:"
    yield "`fedvox budget show SITE.yaml`."


def _origin(origin: str) -> str:
    return (
        "AES-256-CTR keyed by the operating system, a new key a release" if origin == SYSTEM else "a fixed seed: no ε"
    )


def _accountant() -> str:
    version = metadata.version("dp-accounting")
    return f"privacy loss distributions, dp-accounting {version}; Rényi filter for the lifetime cap"


def _number(value: float | None, digits: str) -> str:
    return "–" if value is None else format(value, digits)
