"""Look at a hospital's data as a whole: headers, labels, pixels, and what they measure.

Nothing ends the look: what cannot be read is a finding, and the rest is looked at without it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from data.check.finding import Finding, Level, of_error
from data.check.pixels import Read, read_scan
from data.check.stacks import Headers, look_at_headers
from data.check.summary import Summary, summary_of
from data.dicom.survey import Stack
from data.errors import DataError
from data.preprocess import Preprocess
from data.sources.compose import Subset
from data.sources.source import Source
from data.statistics import Limits, Sampling, SiteStatistics, site_statistics

Progress = Callable[[str, int, int], None]
"""Called with what is being looked at, how much of it is done, and of how many."""


@dataclass(frozen=True)
class Rules:
    """What data are held against."""

    preprocess: Preprocess
    limits: Limits
    sampling: Sampling


@dataclass(frozen=True)
class Checked:
    """Everything that was found."""

    findings: tuple[Finding, ...]
    """Worst first."""
    stacks: tuple[Stack, ...]
    summary: Summary
    statistics: SiteStatistics | None
    """None where pixels were not looked at, or there is nothing to measure."""
    source: Source | None
    """What can be read of it."""

    @property
    def is_refused(self) -> bool:
        """Training would not begin with these data."""
        return any(finding.level is Level.REFUSED for finding in self.findings)


def check_source(
    source: Source, rules: Rules, *, headers_only: bool = False, progress: Progress = lambda what, done, of: None
) -> Checked:
    """Look at headers and labels; then, unless `headers_only`, at every scan's pixels."""
    headers = look_at_headers(source, lambda done, of: progress("headers", done, of))
    reads = [] if headers_only else list(_reads(headers, rules, progress))
    statistics, measured = _measured(headers, reads, rules)
    unusable = {read.ref.uid for read in reads if not read.is_usable}
    usable = (note for uid, note in headers.usable.items() if uid not in unusable)
    found = [*headers.findings, *usable, *(finding for read in reads for finding in read.findings), *measured]
    return Checked(
        findings=tuple(
            sorted(
                [*found, *_of_labels(headers), *_of_patients(headers)],
                key=lambda finding: list(Level).index(finding.level),
            )
        ),
        stacks=headers.stacks,
        summary=summary_of(headers.source, headers.stacks, reads),
        statistics=statistics,
        source=_readable(headers, reads),
    )


def _reads(headers: Headers, rules: Rules, progress: Progress) -> Iterator[Read]:
    refs = headers.source.scans() if headers.source is not None else []
    for done, ref in enumerate(refs, start=1):
        if headers.source is not None:
            yield read_scan(headers.source, ref, rules.preprocess, rules.limits)
        progress("pixels", done, len(refs))


def _readable(headers: Headers, reads: Sequence[Read]) -> Source | None:
    usable = [read.ref for read in reads if read.is_usable]
    return Subset(headers.source, tuple(usable)) if headers.source is not None and usable else None


def _measured(headers: Headers, reads: Sequence[Read], rules: Rules) -> tuple[SiteStatistics | None, list[Finding]]:
    """The hospital's numbers as a run would compare them, and what is wrong with them."""
    source = _readable(headers, reads)
    if source is None:
        return None, []
    try:
        statistics = site_statistics(source, rules.preprocess, sampling=rules.sampling)
    except DataError as error:
        return None, [of_error(error, Level.REFUSED)]
    return statistics, [
        Finding(
            Level.REFUSED if oddity.is_fault else Level.WARNING,
            f"implausible-{oddity.name.replace('_', '-')}",
            f"all scans together: {oddity.what}",
            oddity.quantity.fault,
        )
        for oddity in rules.limits.oddities(statistics.numbers)
        if oddity.name != "labelled"
    ]


def _of_patients(headers: Headers) -> Iterator[Finding]:
    """Splits and privacy count patients; where nobody says whose a scan is, each counts as one."""
    refs = headers.source.scans() if headers.source is not None else []
    if unknown := [ref for ref in refs if not ref.is_patient_known]:
        yield Finding(
            Level.WARNING,
            "patients-unknown",
            f"{len(unknown)} of {len(refs)} scans do not say whose they are; each counts as one patient, and private "
            "training by patients is declined",
            "name each scan's patient, or set source.one_scan_a_patient to true if that is so",
        )


def _of_labels(headers: Headers) -> Iterator[Finding]:
    """Without labels nothing can be trained; a folder that was named without any is looked at for its scans."""
    source = headers.source
    if source is None or any(source.candidates(ref) for ref in source.scans()):
        return
    asked = getattr(source, "labels", "") is not None
    yield Finding(
        Level.REFUSED if asked else Level.NOTE,
        "no-labels",
        f"{len(source.scans())} scans, no labelled place in any",
        "name a table of labels in source.labels",
    )
