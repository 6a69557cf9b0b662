"""Client certificates, for a coordinator that asks for them: what was signed for whom, and what was taken back.

DIR/ca/issued/NAME.KEY.SERIAL.crt     every one that was signed; KEY is the fingerprint of the hospital's own key
DIR/ca/withdrawn/NAME.KEY.SERIAL.crt  those of revoked hospitals
DIR/ca/withdrawn.crl                  the list of these, which the proxy asks

They lie beside the authority, and so in its backup: without them a restored door would let in whom it had shut out.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509

from app.deploy import certificates
from app.files import replacing

if TYPE_CHECKING:
    from app.deploy.coordinator import Coordinator
    from app.deploy.enrolment import Enrolled


def issue(coordinator: "Coordinator", member: "Enrolled", request: bytes) -> bytes:
    """Sign a hospital's request, and keep what was signed. Returns it as PEM. Raises DeployError."""
    pem = certificates.make_client(coordinator.authority, request, member.hospital)
    serial = x509.load_pem_x509_certificate(pem).serial_number
    folder = _issued(coordinator)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with replacing(folder / f"{_stem(member)}.{serial:x}.crt") as file:
        file.write(pem)
    return pem


def withdraw(coordinator: "Coordinator", member: "Enrolled") -> None:
    """Have the proxy refuse every certificate that a hospital's key was given, if it was given any."""
    folder, given = _withdrawn(coordinator), list(_of(coordinator, member))
    if not given:
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path in given:
        path.replace(folder / path.name)
    write_list(coordinator)


def days_left(coordinator: "Coordinator", member: "Enrolled") -> float | None:
    """Days until a hospital's newest certificate ends; None where it was given none."""
    ends = [certificates.days_left(certificates.read_certificate(path)) for path in _of(coordinator, member)]
    return max(ends, default=None)


def list_file(coordinator: "Coordinator") -> Path:
    """What the proxy reads: PEM, signed by the authority."""
    return coordinator.authority.certificate.parent / "withdrawn.crl"


def write_list(coordinator: "Coordinator") -> None:
    """Write the list anew. Raises DeployError where the authority's key is not there."""
    gone = [certificates.read_certificate(path) for path in sorted(_withdrawn(coordinator).glob("*.crt"))]
    pem = certificates.make_revocations(coordinator.authority, gone)
    with replacing(list_file(coordinator)) as file:
        file.write(pem)


def _of(coordinator: "Coordinator", member: "Enrolled") -> Iterator[Path]:
    yield from sorted(_issued(coordinator).glob(f"{_stem(member)}.*.crt"))


def _stem(member: "Enrolled") -> str:
    # A name may come back with another key; what its first key was given stays withdrawn.
    return f"{member.hospital}.{member.fingerprint}"


def _issued(coordinator: "Coordinator") -> Path:
    return coordinator.authority.certificate.parent / "issued"


def _withdrawn(coordinator: "Coordinator") -> Path:
    return coordinator.authority.certificate.parent / "withdrawn"
