"""Synthetic hospitals: thorax phantoms as real DICOM and LUNA16 files."""

from data.synthetic.write import write_cohort

__all__ = ["write_cohort"]
