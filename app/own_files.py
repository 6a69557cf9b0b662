"""The application's own files in a folder of their own, for Flower to make a bundle of.

Flower (1.41) looks at every file below the folder that it is given before it applies `fab-include`: at the thirty
thousand of a `.venv`, which takes it seconds and changes nothing.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.config import CONF
from app.fingerprint import code_files


@contextmanager
def copied() -> Iterator[Path]:
    """A folder with what is hashed and the pyproject.toml; gone afterwards. A wheel has no pyproject.toml."""
    root = CONF.parent
    with tempfile.TemporaryDirectory(prefix="fedvox-app-") as folder:
        for path in [*root.glob("pyproject.toml"), *code_files(root)]:
            copy = Path(folder) / path.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        yield Path(folder)
