"""A program of its own (`python decode_worker.py`): decodes compressed slices, one after another, for one reader.

Asked by a line of JSON: path, syntax, frame, plugin. Answers with a line of JSON, shape and dtype, and the pixels'
bytes. It catches nothing: at the first fault it ends, and the last line it wrote to stderr says why.
"""

import json
import os
import resource
import sys
import warnings
from typing import Any

import pydicom
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID

MEMORY_BYTES = 4 << 30
"""More than any slice needs: a damaged header may ask for any amount."""


def main() -> None:
    """Answer until the reader closes the line."""
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The codecs print to stdout what they please; only answers may stand there.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        asked: dict[str, Any] = json.loads(line)
        dataset = pydicom.dcmread(asked["path"], force=True)
        dataset.file_meta.TransferSyntaxUID = UID(asked["syntax"])
        stored = pixel_array(dataset, index=asked["frame"], decoding_plugin=asked["plugin"], correct_unused_bits=False)
        answers.write(json.dumps({"shape": stored.shape, "dtype": stored.dtype.str}).encode() + b"\n")
        answers.write(stored.tobytes())
        answers.flush()


if __name__ == "__main__":
    main()
