"""Everything that is wrong with a hospital's data, before anybody trains on it."""

from data.check.check import Checked, Rules, check_source
from data.check.finding import Finding, Level

__all__ = ["Checked", "Finding", "Level", "Rules", "check_source"]
