"""Judged by OpenSSL itself, through Python's ssl: what it accepts hospitals accept."""

import contextlib
import socket
import ssl
import stat
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from app.deploy import certificates
from app.deploy.certificates import Pair
from app.deploy.errors import DeployError


@pytest.fixture
def authority(tmp_path):
    pair = Pair(tmp_path / "ca.crt", tmp_path / "ca.key")
    certificates.make_authority(pair, "ct.example.org")
    return pair


def server(authority, hosts, days=certificates.SERVER_DAYS):
    pair = Pair(authority.certificate.parent / "server.crt", authority.certificate.parent / "server.key")
    certificates.make_server(authority, pair, hosts, days=days)
    return pair


def handshake(authority, pair, host, client=None):
    """Connect as a strict client would. Returns what it raised, or None."""
    here, there = socket.socketpair()
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(pair.certificate, pair.key)
    if client is not None:
        serving.verify_mode = ssl.CERT_REQUIRED
        serving.load_verify_locations(authority.certificate)
    asking = ssl.create_default_context(cafile=str(authority.certificate))
    asking.verify_flags |= ssl.VERIFY_X509_STRICT
    if client is not None:
        asking.load_cert_chain(*client)

    def serve():
        with contextlib.suppress(OSError), serving.wrap_socket(there, server_side=True) as secure:
            secure.send(b"x")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with asking.wrap_socket(here, server_hostname=host) as secure:
            return None if secure.recv(1) == b"x" else "nothing came"
    except ssl.SSLError as error:
        return str(error)
    finally:
        here.close()
        thread.join()


@pytest.mark.parametrize("host", ["ct.example.org", "192.0.2.7"])
def test_a_strict_client_accepts_the_server_by_name_and_by_address(authority, host):
    assert handshake(authority, server(authority, ["ct.example.org", "192.0.2.7"]), host) is None


def test_another_host_name_is_refused(authority):
    assert "Hostname mismatch" in handshake(authority, server(authority, ["ct.example.org"]), "evil.example.org")


def test_another_authority_s_server_is_refused(authority, tmp_path):
    (tmp_path / "other").mkdir()
    other = Pair(tmp_path / "other" / "ca.crt", tmp_path / "other" / "ca.key")
    certificates.make_authority(other, "ct.example.org")
    assert "verify failed" in handshake(authority, server(other, ["ct.example.org"]), "ct.example.org")


def test_an_ended_certificate_is_refused_and_counted(authority):
    pair = server(authority, ["ct.example.org"], days=-2)
    assert certificates.days_left(pair.read()) == pytest.approx(-2, abs=0.01)
    assert "expired" in handshake(authority, pair, "ct.example.org")


def test_private_keys_are_the_owner_s_alone(authority):
    for pair in (authority, server(authority, ["ct.example.org"])):
        assert stat.S_IMODE(pair.key.stat().st_mode) == 0o600


def test_the_authority_signs_no_further_authority(authority):
    limits = authority.read().extensions.get_extension_for_class(x509.BasicConstraints)
    assert (limits.critical, limits.value.ca, limits.value.path_length) == (True, True, 0)


def test_a_hospital_s_request_gets_the_name_that_the_coordinator_says(authority, tmp_path):
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "somebody-else")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA384())
    pem = certificates.make_client(authority, request.public_bytes(serialization.Encoding.PEM), "north")
    (tmp_path / "client.crt").write_bytes(pem)
    certificates.write_private(tmp_path / "client.key", certificates.private_pem(key))
    assert certificates.names_of(x509.load_pem_x509_certificate(pem)) == ["north"]
    client = (tmp_path / "client.crt", tmp_path / "client.key")
    assert handshake(authority, server(authority, ["ct.example.org"]), "ct.example.org", client) is None


@pytest.mark.parametrize(
    "content", [b"", b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----"]
)
def test_what_is_no_request_is_refused_by_the_hospital_s_name(authority, content):
    with pytest.raises(DeployError, match="request of north"):
        certificates.make_client(authority, content, "north")


def test_a_missing_certificate_is_an_error_that_names_the_file(tmp_path):
    with pytest.raises(DeployError, match=r"server\.crt"):
        certificates.read_certificate(tmp_path / "server.crt")
