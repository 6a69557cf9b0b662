"""Where scans come from. Every source answers the same five questions (`Source`)."""

from data.sources.compose import Subset, Union
from data.sources.cubes import Cubes
from data.sources.dicom_folder import DicomFolder
from data.sources.luna16 import Luna16
from data.sources.source import Source

__all__ = ["Cubes", "DicomFolder", "Luna16", "Source", "Subset", "Union"]
