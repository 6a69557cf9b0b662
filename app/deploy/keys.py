"""A hospital's own key: it proves to the coordinator's Flower who asks. Made in the hospital, never sent."""

from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.deploy.certificates import private_pem, write_private
from app.deploy.errors import DeployError
from app.files import replacing, write_text


def make_key(private: Path, public: Path, comment: str) -> None:
    """Write a new EC P-384 pair as OpenSSH files, which is what Flower's SuperNode reads; the private one 0600."""
    key = ec.generate_private_key(ec.SECP384R1())
    none = serialization.NoEncryption()
    write_private(private, key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, none))
    write_text(public, f"{_line(key)} {comment}\n")


def read_key(private: Path) -> ec.EllipticCurvePrivateKey:
    """The key. Raises DeployError where there is none that can be used."""
    try:
        key = serialization.load_ssh_private_key(private.read_bytes(), password=None)
    except OSError as error:
        raise DeployError(f"cannot read the hospital's key {private} ({error.strerror})") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise DeployError(f"{private} is no OpenSSH private key; restore it from the backup") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise DeployError(f"{private} is no EC key; `fedvox site init` makes the right one")
    return key


def is_private(private: Path) -> bool:
    """Whether nobody but its owner may read the file."""
    return not private.stat().st_mode & 0o077


def make_request(tls_key: Path, request: Path, hospital: str) -> None:
    """For a coordinator that asks for client certificates: a TLS key (0600) and the request to send along.

    A key that is there is kept: until the new certificate comes, the old one must go on with it.
    """
    key = _read_tls_key(tls_key) if tls_key.exists() else ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hospital)])
    asked = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA384())
    write_private(tls_key, private_pem(key))
    with replacing(request) as file:
        file.write(asked.public_bytes(serialization.Encoding.PEM))


def fits(certificate: bytes, tls_key: Path) -> bool:
    """Whether a client certificate (PEM) is of this TLS key. Raises DeployError where either cannot be used."""
    try:
        told = x509.load_pem_x509_certificate(certificate).public_key()
    except ValueError as error:
        raise DeployError(f"the client certificate cannot be read: {error}; ask the coordinator for it") from error
    return told == _read_tls_key(tls_key).public_key()


def _read_tls_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise DeployError(
            f"no TLS key in {path} ({error.strerror}); make one and a request: fedvox site init DIR --mtls"
        ) from error
    except (ValueError, TypeError) as error:
        raise DeployError(f"{path} is no TLS key; take it away and make another: site init DIR --mtls") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise DeployError(f"{path} is no EC key; take it away and make another: site init DIR --mtls")
    return key


def _line(key: ec.EllipticCurvePrivateKey) -> str:
    public = key.public_key()
    return public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
