"""Every file below a folder, as hospitals gather them: by folders of folders, and by links to folders elsewhere."""

import os
from collections.abc import Iterator
from pathlib import Path


def files_below(folder: Path) -> Iterator[Path]:
    """Regular files below `folder`, in no order.

    Linked folders are entered; each folder counts once, whatever leads to it, so a link back is no endless way. A pipe
    or a device is passed over: to read it might wait for ever.
    """
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(parent)) in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (file for name in names if (file := Path(parent, name)).is_file())
