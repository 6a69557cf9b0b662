"""The federation's certificates: an authority of its own, and the server certificate that it signs.

Elliptic curves (P-384) throughout. Private keys are written 0600 and never leave the folder that they were made in.
"""

import datetime
import ipaddress
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from app.deploy.errors import DeployError
from app.files import replacing

AUTHORITY_DAYS = 3650
"""The authority outlives the projects that it serves; it signs nothing but this federation's certificates."""

SERVER_DAYS = 397
"""As long as browsers accept for a server; `rotate` makes the next one and hospitals notice nothing."""

CLIENT_DAYS = SERVER_DAYS
"""A hospital's under mTLS; `enrol` with the same key and a request makes the next one."""

LOOPBACK_DAYS = AUTHORITY_DAYS
"""Between proxy and SuperLink on one machine, seen by nobody else."""

WARN_DAYS = 30
"""So long before a certificate ends, `status` and `site check` speak of it."""

CLOCK_SLACK = datetime.timedelta(hours=1)
"""Certificates begin this long before now, for hospitals whose clock is behind."""

Name = x509.DNSName | x509.IPAddress


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, as two PEM files."""

    certificate: Path
    key: Path

    def read(self) -> x509.Certificate:
        """The certificate. Raises DeployError where there is none."""
        return read_certificate(self.certificate)

    def write(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        """Replace both files, the key first and for its owner alone."""
        self.key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(self.key, private_pem(key))
        with replacing(self.certificate) as file:
            file.write(certificate.public_bytes(serialization.Encoding.PEM))


def make_authority(pair: Pair, name: str, *, days: float = AUTHORITY_DAYS) -> None:
    """Make a self-signed authority that may sign end certificates and nothing deeper."""
    key = ec.generate_private_key(ec.SECP384R1())
    subject = _subject(f"fedvox authority of {name}")
    usage = _key_usage(key_cert_sign=True, crl_sign=True)
    builder = _builder(subject, subject, key.public_key(), days)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(usage, critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    pair.write(builder.sign(key, hashes.SHA384()), key)


def make_server(authority: Pair, pair: Pair, hosts: Sequence[str], *, days: float = SERVER_DAYS) -> None:
    """Make a server certificate for host names and addresses, the first of which is its subject."""
    key = ec.generate_private_key(ec.SECP384R1())
    certificate = _signed(
        authority, key.public_key(), hosts[0], [_name(host) for host in hosts], ExtendedKeyUsageOID.SERVER_AUTH, days
    )
    pair.write(certificate, key)


def make_client(authority: Pair, request: bytes, hospital: str, *, days: float = CLIENT_DAYS) -> bytes:
    """Sign a hospital's certificate request (PEM) for `hospital`; whatever name the request claims is ignored.

    Returns:
        The certificate as PEM.

    Raises:
        DeployError: the request cannot be read or is not signed by its own key.
    """
    try:
        wanted = x509.load_pem_x509_csr(request)
    except ValueError as error:
        raise DeployError(f"the certificate request of {hospital} cannot be read: {error}") from error
    key = wanted.public_key()
    if not wanted.is_signature_valid or not isinstance(key, ec.EllipticCurvePublicKey):
        raise DeployError(f"the certificate request of {hospital} is not signed by an elliptic-curve key of its own")
    signed = _signed(authority, key, hospital, [x509.DNSName(hospital)], ExtendedKeyUsageOID.CLIENT_AUTH, days)
    return signed.public_bytes(serialization.Encoding.PEM)


def make_revocations(authority: Pair, revoked: Iterable[x509.Certificate]) -> bytes:
    """The authority's list of certificates that are good no more, as PEM.

    It ends with the authority: a list that ended before would shut everybody out.
    """
    signer, key = authority.read(), _private_key(authority.key)
    begin = _now() - CLOCK_SLACK
    end = max(signer.not_valid_after_utc, _now() + CLOCK_SLACK)
    builder = x509.CertificateRevocationListBuilder().issuer_name(signer.subject)
    builder = builder.last_update(begin).next_update(end)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    builder = builder.add_extension(issuer, critical=False)
    for certificate in revoked:
        gone = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(begin)
        builder = builder.add_revoked_certificate(gone.build())
    return builder.sign(key, hashes.SHA384()).public_bytes(serialization.Encoding.PEM)


def read_certificate(path: Path) -> x509.Certificate:
    """A PEM certificate. Raises DeployError where the file is missing or is none."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DeployError(f"cannot read the certificate {path}: {error}") from error


def days_left(certificate: x509.Certificate) -> float:
    """Days until it ends; negative afterwards."""
    return (certificate.not_valid_after_utc - _now()).total_seconds() / 86400


def names_of(certificate: x509.Certificate) -> list[str]:
    """The hosts that a server certificate is for."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key without a password, as PEM (PKCS 8)."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def write_private(path: Path, content: bytes) -> None:
    """Replace a file that only its owner may read; it is never wider, not even for a moment."""
    aside = path.with_name(path.name + ".new")
    aside.unlink(missing_ok=True)
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def _signed(
    authority: Pair,
    key: ec.EllipticCurvePublicKey,
    subject: str,
    names: Sequence[Name],
    usage: x509.ObjectIdentifier,
    days: float,
) -> x509.Certificate:
    signer, signer_key = authority.read(), _private_key(authority.key)
    builder = _builder(_subject(subject), signer.subject, key, days)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(digital_signature=True), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer_key.public_key())
    return builder.add_extension(issuer, critical=False).sign(signer_key, hashes.SHA384())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: float
) -> x509.CertificateBuilder:
    begin, end = _now() - CLOCK_SLACK, _now() + datetime.timedelta(days=days)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(min(begin, end - CLOCK_SLACK)).not_valid_after(end)


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise DeployError(f"cannot read the private key {path}: {error}; restore it from the backup") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise DeployError(f"{path} holds no elliptic-curve key")
    return key


def _subject(text: str) -> x509.Name:
    # X.509 allows 64 characters in a common name; clients compare the alternative names anyway.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _name(host: str) -> Name:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _now() -> datetime.datetime:
    return datetime.datetime.now(tz=datetime.UTC)
