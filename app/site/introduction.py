"""How a hospital introduces its data before round 1: what it measures, what of that may leave, whether it fits.

Measured once and kept in `state_dir/statistics.json` until scans, labels or settings change. Where training is
private, or the run asks for it, the hospital compares itself with ranges and nothing but pass or declined leaves; where
it is private, with fedvox's own ranges and sample, since whoever may choose those reads any median off the answers, a
bit each. Otherwise medians of enough patients leave (`data.statistics.disclosed`), and the coordinator compares.
"""

import json
import logging
from typing import Any

from flwr.app import Context

from app.config import Config, build
from app.files import write_json
from app.privacy.terms import terms_of
from app.site.place import composed, configured, site_of
from app.site.shield import Declined, discreet, logbook
from app.site.site import Site
from app.site.told import record
from data.preprocess import Preprocess
from data.statistics import (
    Limits,
    Oddity,
    Sampling,
    SiteStatistics,
    of_plain,
    site_statistics,
    statistics_stamp,
)
from data.statistics.disclosed import disclosed
from strategies.types import Plan

log = logging.getLogger(__name__)


def introduce(context: Context, plan: Plan) -> dict[str, Any]:
    """What the hospital that the plan names says of its data.

    Raises:
        Declined: its data are not as data can be, and it may not say which number tells; other code or configuration.
        DataError: its data cannot be read.
    """
    config = configured(context, plan)
    is_private = terms_of(config) is not None
    with discreet(is_private=is_private):
        site = site_of(context, plan)
        with logbook(site.name, site.state_dir):
            alone = is_private or config["comparison"]["where"] == "hospital"
            if is_private:
                config = {**config, "comparison": composed("")["comparison"]}
            return record(site.name, _leaving(site, config, alone=alone))


def measured(site: Site, config: Config) -> SiteStatistics:
    """The hospital's statistics, measured anew where anything changed since they were kept."""
    preprocess: Preprocess = build(config["preprocess"])
    sampling = _sampling(site, config)
    file, stamp = site.state_dir / "statistics.json", statistics_stamp(site.source, preprocess, sampling)
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["stamp"] == stamp:
            return of_plain(kept["statistics"])
    except (OSError, ValueError, KeyError, TypeError):
        log.debug("%s: nothing kept that can be used", file)
    statistics = site_statistics(site.source, preprocess, sampling=sampling)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {"stamp": stamp, "statistics": statistics.plain()})
    return statistics


def faults(statistics: SiteStatistics, config: Config) -> list[Oddity]:
    """What may not be so at any hospital: the comparison that needs no other one."""
    limits: Limits = build(config["comparison"]["limits"])
    return [oddity for oddity in limits.oddities(statistics.numbers) if oddity.is_fault]


def _leaving(site: Site, config: Config, *, alone: bool) -> SiteStatistics | None:
    """What may leave; None where that is only that nothing is wrong. Raises Declined."""
    statistics = measured(site, config)
    told = None if alone else disclosed(statistics, min_patients=_fewest(site))
    # What the coordinator sees it judges by itself, and can then name both values.
    unseen = [fault for fault in faults(statistics, config) if told is None or fault.name not in told.numbers]
    if unseen:
        code = "declined" if alone else f"implausible-{unseen[0].name.replace('_', '-')}"
        raise Declined(code, "; ".join(f"{fault.what}: {fault.quantity.fault}" for fault in unseen))
    return told


def _sampling(site: Site, config: Config) -> Sampling:
    """As the run asks; more where the hospital tells nothing of so few patients."""
    wished: Sampling = build(config["comparison"]["sampling"])
    return Sampling(scans=max(wished.scans, _fewest(site)), crops=wished.crops)


def _fewest(site: Site) -> int:
    return int(site.policy.get("min_patients") or 1)
