"""Compressed slices are decoded in a process of their own.

The codecs are C and C++: on damaged bytes GDCM ends the process it runs in (its exceptions cannot be caught from
Python), and any of them may loop or ask for all memory. A hospital must survive one bad file, so the codecs get their
own process, which costs 0.4 s a series and a copy of each slice.
"""

import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from data.dicom.plane import Plane
from data.errors import UndecodableScan

SECONDS_A_SLICE = 60.0
"""A slice takes milliseconds."""

_JPEG_LS = {f"1.2.840.10008.1.2.4.{n}": "pyjpegls" for n in (80, 81)}
_JPEG_2000 = {f"1.2.840.10008.1.2.4.{n}": "pylibjpeg" for n in (90, 91, 201, 202, 203)}
_PLUGINS = {**_JPEG_LS, **_JPEG_2000}
"""pydicom's plug-in for a syntax, where there is a choice; elsewhere it takes what is installed."""


class DecodingProcess:
    """Decodes slices one after another; ends with the `with` block, or at the first slice that cannot be decoded."""

    def __init__(self) -> None:
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 (closed in __exit__)
        worker = Path(__file__).with_name("decode_worker.py")
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(worker)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._complaints.close()

    def decode(self, plane: Plane) -> NDArray[Any]:
        """The stored pixels of a slice, as its codec has them.

        Raises:
            UndecodableScan: damaged, or nothing here decodes it.
        """
        watch = threading.Timer(SECONDS_A_SLICE, self._process.kill)
        watch.start()
        try:
            return self._answer(plane)
        except (OSError, ValueError) as error:  # the line is closed, or ends in the middle of an answer
            raise UndecodableScan(
                f"{plane.name}: its pixels cannot be decoded ({self._reason()}); export the series again, uncompressed"
            ) from error
        finally:
            watch.cancel()

    def _answer(self, plane: Plane) -> NDArray[Any]:
        ask, answer = self._process.stdin, self._process.stdout
        if ask is None or answer is None:
            raise ValueError("no line to the decoder")
        header = plane.header
        question = {
            "path": str(header.path.absolute()),
            "syntax": header.syntax,
            "frame": plane.frame if header.frames > 1 else None,
            "plugin": _PLUGINS.get(header.syntax, ""),
        }
        ask.write(json.dumps(question).encode() + b"\n")
        ask.flush()
        found = json.loads(answer.readline())
        stored = np.empty(found["shape"], np.dtype(found["dtype"]))
        if answer.readinto(stored.reshape(-1).view(np.uint8).data) != stored.nbytes:  # type: ignore[attr-defined]
            raise ValueError("the answer is cut short")
        return stored

    def _reason(self) -> str:
        """What the decoder said last."""
        self._process.kill()
        self._process.wait()
        self._complaints.seek(0)
        said = self._complaints.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(said) if line.strip()), "the decoder ended without a word")
