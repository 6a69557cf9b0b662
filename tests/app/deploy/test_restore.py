"""What the documentation's backup table says to save is enough to start again, on either side."""

import re
import shutil
import signal
import stat
import sys
from pathlib import Path

import pytest

from app.deploy import children, life, serve
from app.deploy.coordinator import open_coordinator, rotate
from app.deploy.errors import DeployError
from app.deploy.founding import Founding
from app.deploy.hospital import join, make_hospital, open_hospital
from app.deploy.supervision import supervise

DOCS = Path(__file__).resolve().parents[3] / "docs" / "deployment.md"


def restored(folder, side):
    """The folder as it is after a loss: what the table's column "save" names, in the same place."""
    (row,) = re.findall(rf"^\| {side} \| (.*?) \|", DOCS.read_text().partition("## Backup")[2], re.MULTILINE)
    saved = re.findall(r"`([\w./]+)`", row)
    assert len(saved) >= 6
    lost = folder.with_name("lost")
    folder.rename(lost)
    folder.mkdir(mode=0o700)
    for name in saved:
        source = lost / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        if any(source.iterdir()) if source.is_dir() else source.exists():  # many a backup leaves empty folders out
            copy(source, folder / name)
    return folder


@pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx (apt-get install nginx)")
def test_a_restored_coordinator_makes_its_certificate_again_and_starts(coordinator, monkeypatch):
    monkeypatch.setattr(serve, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(serve, "_superlink_command", lambda _: ["sh", "-c", "echo started in the end; exit 1"])
    made = open_coordinator(restored(coordinator.folder, "coordinator"))
    with pytest.raises(DeployError, match=r"coordinator rotate"):
        serve.serve(made, lambda _: None)
    rotate(made)
    with pytest.raises(DeployError, match="started in the end"):
        serve.serve(made, lambda _: None)


def test_a_restored_hospital_starts(tmp_path, monkeypatch):
    (tmp_path / "ct").mkdir()
    made = make_hospital(tmp_path / "north", Founding("north", tmp_path / "ct").settings())
    kit = tmp_path / "kit"
    kit.mkdir()
    (kit / "ca.crt").write_text("authority")
    (kit / "kit.yaml").write_text("hospital: north\naddress: localhost:1\n")
    join(made, kit)
    hospital = open_hospital(restored(made.folder, "hospital"))
    started, begin = [], children.start

    def start(command, *, env, cwd):
        started.append(command[2])
        return begin([sys.executable, "-c", ""], env=env, cwd=cwd)

    def say(text):
        if text.startswith("starting again"):
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(life.children, "start", start)
    supervise(hospital, say)
    assert started == ["app.deploy.resident", "app.deploy.node"]
    assert stat.S_IMODE((hospital.folder / "work").stat().st_mode) == 0o700
