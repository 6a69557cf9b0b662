"""A hospital's folder: everything that its side of a deployment needs, and where each thing lies.

DIR/site.yaml           who it is, where its data are, what it accepts; never leaves
DIR/keys/               node (private), node.pub (to be sent), ledger.key; under mTLS client.key and client.csr
DIR/kit/                what the coordinator gave: ca.crt, kit.yaml, under mTLS client.crt; nothing secret
DIR/approved/           HASH.json and HASH.fab: bundles that may be answered
DIR/state/, cache/      ledger, memory of runs, prepared scans
DIR/logs/, audit.jsonl  what happened, in full; for the hospital's eyes
DIR/flower/, work/      home and working folder of Flower's processes
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from app.deploy import audit_log
from app.deploy.enrolment import NAME
from app.deploy.errors import DeployError
from app.deploy.keys import fits, make_key
from app.files import replacing, write_text
from app.site.site_file import SiteFile, read_site_file

OWNER_ONLY = 0o700
FOLDERS = ("keys", "approved", "state", "cache", "logs", "flower", "work")


@dataclass(frozen=True)
class Kit:
    """What the coordinator sent."""

    hospital: str
    address: str
    """HOST:PORT, as its certificate names it."""
    mtls: bool


@dataclass(frozen=True)
class Hospital:
    """The folder of one hospital."""

    folder: Path

    @property
    def site_file(self) -> Path:
        return self.folder / "site.yaml"

    @property
    def key(self) -> Path:
        return self.folder / "keys" / "node"

    @property
    def public_key(self) -> Path:
        return self.folder / "keys" / "node.pub"

    @property
    def client_key(self) -> Path:
        """Under mTLS, of the certificate below."""
        return self.folder / "keys" / "client.key"

    @property
    def client_certificate(self) -> Path:
        return self.folder / "kit" / "client.crt"

    @property
    def authority(self) -> Path:
        return self.folder / "kit" / "ca.crt"

    @property
    def approved(self) -> Path:
        return self.folder / "approved"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    def make_places(self) -> None:
        """Make the folders that are not there: a backup holds neither those of no worth nor empty ones."""
        for part in ("", *FOLDERS):
            (self.folder / part).mkdir(parents=True, exist_ok=True, mode=OWNER_ONLY)

    def site(self) -> SiteFile:
        """What its file says. Raises ConfigError."""
        return read_site_file(self.site_file)

    def kit(self) -> Kit:
        """What the coordinator sent. Raises DeployError where nothing came yet."""
        return read_kit(self.folder / "kit")

    def record(self, event: str, **facts: Any) -> None:
        """Add a line to the hospital's audit log."""
        audit_log.append(self.folder / "audit.jsonl", event, **facts)


def open_hospital(folder: Path) -> Hospital:
    """The hospital that stands in a folder. Raises DeployError where none does."""
    hospital = Hospital(folder.expanduser().absolute())
    if not hospital.site_file.exists() or not hospital.key.exists():
        raise DeployError(f"{folder} is no hospital's folder; make one: fedvox site init {folder} --name NAME")
    return hospital


def make_hospital(folder: Path, settings: Mapping[str, Any]) -> Hospital:
    """Make the folder of a hospital, its key and its site.yaml of `settings`.

    Raises:
        DeployError: the name cannot be used, or a hospital stands there already.
        ConfigError: `settings` are not what a site.yaml may hold.
    """
    hospital, name = Hospital(folder.expanduser().absolute()), str(settings["name"])
    if hospital.site_file.exists() or hospital.key.exists():
        raise DeployError(f"a hospital stands in {folder} already; edit its site.yaml, or take another folder")
    if not NAME.fullmatch(name):
        raise DeployError(f"{name!r} is no name for a hospital: letters, digits, - and _, at most 63")
    hospital.make_places()
    write_text(hospital.site_file, yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True))
    try:
        hospital.site()
    except ValueError:
        hospital.site_file.unlink()
        raise
    make_key(hospital.key, hospital.public_key, name)
    hospital.record("hospital-made", hospital=name)
    return hospital


def join(hospital: Hospital, kit: Path) -> Kit:
    """Take the coordinator's kit in, in place of any earlier one.

    Raises:
        DeployError: it is no kit, or another hospital's.
    """
    told, name = read_kit(kit), hospital.site().name
    if told.hospital != name:
        raise DeployError(f"{kit} is the kit of hospital {told.hospital!r}; this one is {name!r}")
    if told.mtls:
        _check_client(hospital, kit / "client.crt")
    into = hospital.folder / "kit"
    into.mkdir(exist_ok=True, mode=OWNER_ONLY)
    for part in ("ca.crt", "kit.yaml", *(("client.crt",) if told.mtls else ())):
        if not (kit / part).exists():
            raise DeployError(f"{kit} lacks {part}; ask the coordinator for a whole kit")
        if (kit / part).resolve() != (into / part).resolve():
            with replacing(into / part) as file:
                file.write((kit / part).read_bytes())
    hospital.record("kit-taken-in", address=told.address, mtls=told.mtls)
    return told


def _check_client(hospital: Hospital, certificate: Path) -> None:
    """Raise DeployError where a kit's client certificate is not of this hospital's TLS key."""
    if not certificate.exists():
        raise DeployError(f"{certificate.parent} lacks client.crt; ask the coordinator for a whole kit")
    if not fits(certificate.read_bytes(), hospital.client_key):
        raise DeployError(
            f"{certificate} is not of {hospital.client_key}; send keys/client.csr to the coordinator again"
        )


def read_kit(folder: Path) -> Kit:
    """A kit's facts. Raises DeployError where it has none that can be used."""
    path = folder / "kit.yaml"
    try:
        told = yaml.safe_load(path.read_text(encoding="utf-8"))
        kit = Kit(hospital=str(told["hospital"]), address=str(told["address"]), mtls=bool(told.get("mtls", False)))
    except OSError as error:
        raise DeployError(
            f"no kit of the coordinator in {folder} ({error.strerror}); send it keys/node.pub, and take in what comes "
            "back: fedvox site init DIR --kit KIT"
        ) from error
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise DeployError(f"{path} is no kit: hospital and address are needed ({error})") from error
    host, colon, port = kit.address.rpartition(":")
    if not (host and colon and port.isdigit()):
        raise DeployError(f"{path}: address {kit.address!r} is not HOST:PORT")
    return kit
