"""LIDC-IDRI's XML: what up to four radiologists drew on the slices of one scan → nodules."""

from data.lidc.nodules import Nodule, nodules_of
from data.lidc.readings import Marking, Outline, Reading, read_reading

__all__ = ["Marking", "Nodule", "Outline", "Reading", "nodules_of", "read_reading"]
