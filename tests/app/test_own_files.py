"""What Flower is given to make a bundle of."""

from app import own_files
from app.config import CONF
from app.fingerprint import code_files


def test_it_is_what_is_hashed_and_the_project_file_and_gone_afterwards():
    with own_files.copied() as folder:
        copied = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    root = CONF.parent
    assert copied == {
        path.relative_to(root): path.read_bytes() for path in [root / "pyproject.toml", *code_files(root)]
    }
    assert not folder.exists()
