"""What is hashed is what travels."""

import io
import zipfile

import pytest
from flwr.cli.build import build_fab_from_disk

from app.config import CONF
from app.fingerprint import code_files


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # flwr 1.41 names an old pattern
def test_a_bundle_holds_every_file_that_is_hashed_and_no_other_code():
    # Flower leaves out what looks like a test (*_test.py, test_*.py), some folders (build, lib, parts …) and what git
    # ignores: server and hospital would then hash different code, and a module would be missing in deployment.
    root = CONF.parent
    with zipfile.ZipFile(io.BytesIO(build_fab_from_disk(root))) as bundle:
        sent = {name for name in bundle.namelist() if name.endswith((".py", ".yaml"))}
    assert sent == {path.relative_to(root).as_posix() for path in code_files(root)}
