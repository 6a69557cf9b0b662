"""What tests of the coordinator's side share."""

import pytest

from app.deploy.coordinator import make_coordinator
from app.deploy.enrolment import enrol
from app.deploy.keys import make_key
from app.processes import free_port


@pytest.fixture
def coordinator(tmp_path):
    """A coordinator's folder, not running, with two hospitals enrolled."""
    made = make_coordinator(tmp_path / "coordinator", f"localhost:{free_port()}", superlink_port=free_port())
    for name in ("north", "south"):
        make_key(tmp_path / name, tmp_path / f"{name}.pub", name)
        enrol(made, name, tmp_path / f"{name}.pub")
    return made
