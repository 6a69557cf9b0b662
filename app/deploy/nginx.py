"""The door: an nginx that speaks TLS with hospitals and hands on what a SuperNode needs, nothing else.

Flower's control API has no authentication in the open-source runtime and shares the port with the fleet API: whoever
reaches it may run any code on all hospitals. So the SuperLink listens on loopback alone, and this proxy forwards the
paths below by exact match. A SuperNode with a registered key uses ten of Flower's twelve fleet paths; the two by
which a node registers itself stay shut, since here the coordinator registers.
"""

import os
import shutil
import signal
from pathlib import Path

from app.deploy import issued
from app.deploy.coordinator import Coordinator
from app.deploy.errors import DeployError
from app.deploy.releases import log_file
from app.files import write_text

FLEET = (
    "activate-node",
    "deactivate-node",
    "send-node-heartbeat",
    "pull-messages",
    "push-messages",
    "get-run",
    "get-fab",
    "push-object",
    "pull-object",
    "confirm-message-received",
)
"""Of flwr 1.41, supernode/fleet_http_client.py."""

BODY_MIB = 8
"""Flower's chunks are 5 MiB."""

REQUESTS_A_SECOND, BURST = 200, 2000
"""For one address, which hospitals may share. A model is an object for every 5 MiB, each a request. More than a burst
is answered 503, which a SuperNode tries again."""

CONNECTIONS = 64
"""At once from one address."""

TEMPLATE = """\
# Written by fedvox at each start; changes are lost.
{user}daemon off;
worker_processes 2;
pid {state}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    access_log /dev/stdout;
    log_format release escape=json '{{"key": "$http_flwr_public_key", "release": "$http_fedvox_release"}}';
    map $status $is_let_in {{ 200 1; default 0; }}
    server_tokens off;
    default_type text/plain;

    # Bodies are raw updates: they stay in memory and touch no disk.
    client_max_body_size {body}m;
    client_body_buffer_size {body}m;
    client_body_temp_path {state}/body;
    proxy_max_temp_file_size 0;
    proxy_temp_path {state}/proxy;
    fastcgi_temp_path {state}/fastcgi;
    uwsgi_temp_path {state}/uwsgi;
    scgi_temp_path {state}/scgi;
    client_header_timeout 15s;
    client_body_timeout 120s;
    keepalive_timeout 75s;
    limit_req_zone $binary_remote_addr zone=requests:10m rate={rate}r/s;
    limit_conn_zone $binary_remote_addr zone=connections:10m;

    upstream superlink {{
        server {superlink};
        keepalive 32;
    }}

    server {{
        listen {listen} ssl;
        ssl_certificate {server.certificate};
        ssl_certificate_key {server.key};
        ssl_protocols TLSv1.2 TLSv1.3;
{trust}
        limit_req zone=requests burst={burst} nodelay;
        limit_conn connections {connections};

        proxy_pass_request_headers on;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host localhost;
        proxy_ssl_verify on;
        proxy_ssl_name localhost;
        proxy_ssl_server_name on;
        proxy_ssl_trusted_certificate {authority.certificate};
        proxy_read_timeout 300s;

        location / {{ return 404; }}
{locations}
    }}
}}
"""

SESSIONS = """\
        ssl_session_cache shared:sessions:10m;
"""

LOCATION = """\
        location = /v1/fleet/{path} {{
            if ($request_method != POST) {{ return 405; }}
            proxy_pass https://superlink/v1/fleet/{path};{more}
        }}"""
"""nginx matches what a path means (`..` and `%2e` resolved, slashes merged), and would hand on what was written: with a
path of its own in proxy_pass, what is handed on is what was matched."""

RELEASES = """
            access_log /dev/stdout;
            access_log {path} release if=$is_let_in;"""
"""Where a hospital is let in it says what it has installed (`app.deploy.releases`)."""

MTLS = """\
        ssl_client_certificate {authority.certificate};
        ssl_crl {revocations};
        ssl_verify_client on;
        ssl_session_cache off;
        ssl_session_tickets off;
"""
"""A session that is taken up again carries the verdict on its certificate along, also past a revocation: so none is."""


def write_configuration(coordinator: Coordinator) -> Path:
    """Write the configuration into Flower's state folder. Returns its path."""
    if coordinator.mtls and not issued.list_file(coordinator).exists():
        issued.write_list(coordinator)
    path = coordinator.state_dir / "nginx.conf"
    write_text(path, configuration(coordinator))
    return path


def configuration(coordinator: Coordinator) -> str:
    """The whole configuration; it depends on the coordinator's settings and on nothing of the machine's nginx."""
    more = {"activate-node": RELEASES.format(path=log_file(coordinator))}
    return TEMPLATE.format(
        # Root's workers would become another account, which may not enter our folders.
        user="user root;\n" if os.geteuid() == 0 else "",
        state=coordinator.state_dir,
        body=BODY_MIB,
        rate=REQUESTS_A_SECOND,
        burst=BURST,
        connections=CONNECTIONS,
        superlink=coordinator.superlink,
        listen=coordinator.listen,
        server=coordinator.server,
        authority=coordinator.authority,
        trust=MTLS.format(authority=coordinator.authority, revocations=issued.list_file(coordinator))
        if coordinator.mtls
        else SESSIONS,
        locations="\n".join(LOCATION.format(path=path, more=more.get(path, "")) for path in FLEET),
    )


def command(configuration: Path) -> list[str]:
    """How nginx is started. Raises DeployError where there is none."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
    if found is None:
        raise DeployError(
            "nginx is not installed; apt-get install nginx (its own service may stay disabled), then start again"
        )
    return [found, "-e", "stderr", "-c", str(configuration), "-p", str(configuration.parent)]


def reload(pid: int) -> None:
    """Have a running nginx read its certificates again."""
    os.kill(pid, signal.SIGHUP)
