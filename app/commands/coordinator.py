"""`fedvox coordinator`: the middle of a federation of real hospitals."""

import argparse
import datetime
import signal
from pathlib import Path
from typing import Any

EPILOG = """\
examples:
  fedvox coordinator init /srv/fedvox --host ct.example.org:8443
  fedvox coordinator enrol north node.pub --dir /srv/fedvox
  fedvox coordinator start /srv/fedvox
  fedvox run --superlink /srv/fedvox deploy=hospitals 'federation.hospitals={north:{},south:{}}' rounds=20
"""


def add_parser(verbs: Any) -> None:
    """Add `coordinator` to the verbs."""
    parser = verbs.add_parser(
        "coordinator",
        help="run the middle of a federation: enrol hospitals, start, look after certificates",
        description="The coordinator's side of hospitals on their own machines; docs/deployment.md walks through it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for add in (_add_init, _add_enrol, _add_start):
        add(actions)


def _add_init(actions: Any) -> None:
    parser = actions.add_parser("init", help="make authority, certificates and configuration in a new folder")
    parser.add_argument("dir", type=Path, metavar="DIR")
    parser.add_argument("--host", required=True, metavar="NAME[:PORT]", help="as hospitals will dial it (port 8443)")
    parser.add_argument("--port", type=int, metavar="P", help="the port on this machine, if it is another one")
    parser.add_argument(
        "--superlink-port", type=int, default=18443, metavar="P", help="loopback port of Flower's SuperLink (18443)"
    )
    parser.add_argument("--mtls", action="store_true", help="ask hospitals for a client certificate, too")
    parser.set_defaults(run=_init)


def _init(args: argparse.Namespace) -> int:
    from app.deploy.certificates import days_left
    from app.deploy.coordinator import make_coordinator

    made = make_coordinator(args.dir, args.host, listen=args.port, superlink_port=args.superlink_port, mtls=args.mtls)
    print(f"coordinator {made.address} in {made.folder}")
    ends = {name: days_left(pair.read()) for name, pair in (("authority", made.authority), ("server", made.server))}
    print("certificates: " + ", ".join(f"{name} {days:.0f} days" for name, days in ends.items()))
    print(f"keep safe, and save: {made.authority.key}")
    print(f"next, for each hospital: fedvox coordinator enrol NAME node.pub --dir {made.folder}")
    return 0


def _add_enrol(actions: Any) -> None:
    parser = actions.add_parser("enrol", help="take a hospital's public key in, and write its kit")
    parser.add_argument("hospital", metavar="NAME")
    parser.add_argument("key", type=Path, metavar="PUBKEY", help="the hospital's keys/node.pub")
    parser.add_argument("--request", type=Path, metavar="CSR", help="under --mtls: the hospital's certificate request")
    _add_dir(parser)
    parser.set_defaults(run=_enrol)


def _enrol(args: argparse.Namespace) -> int:
    from app.deploy.coordinator import open_coordinator
    from app.deploy.enrolment import enrol

    kit = enrol(open_coordinator(args.dir), args.hospital, args.key, request=args.request)
    print(f"{args.hospital} is enrolled; send it the folder {kit} (nothing in it is secret)")
    print("there: fedvox site init DIR --kit KIT, then fedvox site start DIR")
    return 0


def _add_start(actions: Any) -> None:
    parser = actions.add_parser("start", help="run SuperLink and proxy until interrupted")
    parser.add_argument("dir", type=Path, metavar="DIR")
    parser.set_defaults(run=_start)


def _start(args: argparse.Namespace) -> int:
    from app.deploy.coordinator import open_coordinator
    from app.deploy.serve import serve

    # systemd and containers end with SIGTERM what a keyboard ends with Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        serve(open_coordinator(args.dir), lambda text: print(f"{datetime.datetime.now():%H:%M:%S} {text}", flush=True))  # noqa: DTZ005 — local time
    except KeyboardInterrupt:
        print("stopped; hospitals wait, and come back when it starts again")
    return 0


def _add_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dir", type=Path, default=Path(), metavar="DIR", help="the coordinator's folder (default: this folder)"
    )
