"""A hospital's data as a few plain numbers, by which it can be looked at and compared with others."""

from data.statistics.limits import ImplausibleSite, Limits, Oddity
from data.statistics.sampling import Sampling
from data.statistics.site import SiteStatistics, of_plain, site_statistics, statistics_stamp

__all__ = [
    "ImplausibleSite",
    "Limits",
    "Oddity",
    "Sampling",
    "SiteStatistics",
    "of_plain",
    "site_statistics",
    "statistics_stamp",
]
