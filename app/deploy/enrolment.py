"""Who belongs to the federation: a hospital's public key comes in, its kit goes out, and either can be taken back.

The files in DIR/hospitals are what counts: a running coordinator registers what appears there with Flower's SuperLink
and ends what disappears, and one that starts registers all of it.
"""

import base64
import hashlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from app.deploy import issued
from app.deploy.coordinator import Coordinator
from app.deploy.errors import DeployError
from app.files import replacing, write_text

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
"""Hospital names become file names and certificate names."""

CURVES = ("secp256r1", "secp384r1", "secp521r1")
"""What Flower accepts of SuperNodes."""


@dataclass(frozen=True)
class Enrolled:
    """A hospital and its public key."""

    hospital: str
    key: ec.EllipticCurvePublicKey

    @property
    def spki(self) -> bytes:
        """The key as Flower registers and compares it (PEM, SubjectPublicKeyInfo)."""
        return self.key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    @property
    def line(self) -> str:
        """The key as OpenSSH writes it."""
        made = self.key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        return made.decode()

    @property
    def fingerprint(self) -> str:
        """16 hex digits of the key's SHA-256, for logs and file names."""
        return hashlib.sha256(self.spki).hexdigest()[:16]

    @property
    def spoken(self) -> str:
        """What `ssh-keygen -lf node.pub` says at the hospital, to compare on the telephone."""
        digest = hashlib.sha256(base64.b64decode(self.line.split()[1])).digest()
        return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def enrol(coordinator: Coordinator, hospital: str, key: Path, *, request: Path | None = None) -> Path:
    """Take a hospital's public key in and write its kit; for a hospital that has this key already, a new kit.

    Args:
        coordinator: whose federation.
        hospital: the hospital's name in runs.
        key: its OpenSSH public key, a NIST curve.
        request: under mTLS, the hospital's certificate request (PEM).

    Returns:
        The kit's folder, to be sent to the hospital; nothing in it is secret.

    Raises:
        DeployError: the name or key cannot be used, is another's, or was revoked.
    """
    new = Enrolled(_checked(hospital), read_key(key))
    is_known = _is_known(coordinator, new)
    kit = write_kit(coordinator, new, _read(request) if request else None)
    coordinator.record("kit-renewed" if is_known else "hospital-enrolled", hospital=hospital, key=new.fingerprint)
    if not is_known:
        write_text(coordinator.hospitals / f"{hospital}.pub", f"{new.line} {hospital}\n")
    return kit


def revoke(coordinator: Coordinator, hospital: str) -> Enrolled:
    """End a hospital's part: key and certificates are refused from now on, and the key may not be enrolled again.

    Raises:
        DeployError: no such hospital.
    """
    path = coordinator.hospitals / f"{_checked(hospital)}.pub"
    if not path.exists():
        names = ", ".join(member.hospital for member in enrolled(coordinator)) or "none"
        raise DeployError(f"no hospital {hospital!r} is enrolled; there are: {names}")
    member = Enrolled(hospital, read_key(path))
    coordinator.record("hospital-revoked", hospital=hospital, key=member.fingerprint)
    issued.withdraw(coordinator, member)
    path.replace(coordinator.revoked / f"{hospital}.{member.fingerprint}.pub")
    shutil.rmtree(coordinator.kits / hospital, ignore_errors=True)
    return member


def enrolled(coordinator: Coordinator) -> list[Enrolled]:
    """All hospitals, by name."""
    return list(_keys(coordinator.hospitals))


def write_kit(coordinator: Coordinator, member: Enrolled, request: bytes | None = None) -> Path:
    """What a hospital needs to find and to know the coordinator."""
    hospital = member.hospital
    kit = coordinator.kits / hospital
    if coordinator.mtls and request is None:
        raise DeployError(
            f"this coordinator asks for client certificates: give the request of {hospital}, "
            f"fedvox coordinator enrol {hospital} KEY.pub --request KEYS/client.csr"
        )
    kit.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(coordinator.authority.certificate, kit / "ca.crt")
    if request is not None:
        with replacing(kit / "client.crt") as file:
            file.write(issued.issue(coordinator, member, request))
    facts = {"hospital": hospital, "address": coordinator.address, "mtls": coordinator.mtls}
    write_text(kit / "kit.yaml", yaml.safe_dump(facts, sort_keys=False))
    return kit


def read_key(path: Path) -> ec.EllipticCurvePublicKey:
    """An OpenSSH public key on a NIST curve. Raises DeployError for anything else."""
    try:
        key = serialization.load_ssh_public_key(path.read_bytes())
    except OSError as error:
        raise DeployError(f"cannot read the public key {path} ({error.strerror})") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise DeployError(
            f"{path} is no OpenSSH public key ({error}); send DIR/keys/node.pub of the hospital"
        ) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in CURVES:
        raise DeployError(f"{path} is not on a NIST curve (P-384); `fedvox site init` makes the right one")
    return key


def _is_known(coordinator: Coordinator, new: Enrolled) -> bool:
    """Whether this hospital has this key already. Raises DeployError where name or key are another's, or were."""
    for member in enrolled(coordinator):
        if (member.hospital, member.spki) == (new.hospital, new.spki):
            return True
        if member.hospital == new.hospital:
            raise DeployError(
                f"{new.hospital} is enrolled already with another key ({member.fingerprint}); revoke it first"
            )
        if member.spki == new.spki:
            raise DeployError(f"this key is {member.hospital}'s already; each hospital needs a key of its own")
    if any(member.spki == new.spki for member in _keys(coordinator.revoked)):
        raise DeployError(f"this key was revoked; {new.hospital} must make a new one (fedvox site init)")
    return False


def _read(request: Path) -> bytes:
    try:
        return request.read_bytes()
    except OSError as error:
        raise DeployError(f"cannot read the certificate request {request} ({error.strerror})") from error


def _keys(folder: Path) -> Iterator[Enrolled]:
    for path in sorted(folder.glob("*.pub")):
        yield Enrolled(path.name.partition(".")[0], read_key(path))


def _checked(hospital: str) -> str:
    if not NAME.fullmatch(hospital):
        raise DeployError(f"{hospital!r} is no name for a hospital: letters, digits, - and _, at most 63")
    return hospital
