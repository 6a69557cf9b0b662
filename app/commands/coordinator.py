"""`fedvox coordinator`: the middle of a federation of real hospitals."""

import argparse
import datetime
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.deploy.coordinator import Coordinator

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
    for add in (_add_init, _add_enrol, _add_start, _add_status, _add_revoke, _add_rotate, _add_bundle):
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
    parser.add_argument("--systemd", action="store_true", help="write a systemd unit, too")
    parser.add_argument("--container", action="store_true", help="write a Dockerfile and a compose file, too")
    parser.add_argument("--user", help="the account that runs these (the folder's owner; fedvox where that is root)")
    parser.set_defaults(run=_init)


def _init(args: argparse.Namespace) -> int:
    from app.deploy.certificates import days_left
    from app.deploy.coordinator import make_coordinator

    made = make_coordinator(args.dir, args.host, listen=args.port, superlink_port=args.superlink_port, mtls=args.mtls)
    print(f"coordinator {made.address} in {made.folder}")
    ends = {name: days_left(pair.read()) for name, pair in (("authority", made.authority), ("server", made.server))}
    print("certificates: " + ", ".join(f"{name} {days:.0f} days" for name, days in ends.items()))
    for line in _services(args, made):
        print(line)
    print(f"keep safe, and save: {made.authority.key}")
    print(f"next, for each hospital: fedvox coordinator enrol NAME node.pub --dir {made.folder}")
    return 0


def _services(args: argparse.Namespace, made: "Coordinator") -> list[str]:
    from app.deploy.service import Role, written

    role = Role("coordinator", made.folder, port=made.listen, user=args.user)
    return written(role, systemd=args.systemd, container=args.container)


def _add_enrol(actions: Any) -> None:
    parser = actions.add_parser(
        "enrol", help="take a hospital's public key in, and write its kit; with the same key again, a new kit"
    )
    parser.add_argument("hospital", metavar="NAME")
    parser.add_argument("key", type=Path, metavar="PUBKEY", help="the hospital's keys/node.pub")
    parser.add_argument("--request", type=Path, metavar="CSR", help="under --mtls: the hospital's certificate request")
    _add_dir(parser)
    parser.set_defaults(run=_enrol)


def _enrol(args: argparse.Namespace) -> int:
    from app.deploy.coordinator import open_coordinator
    from app.deploy.enrolment import Enrolled, enrol, read_key

    kit = enrol(open_coordinator(args.dir), args.hospital, args.key, request=args.request)
    spoken = Enrolled(args.hospital, read_key(args.key)).spoken
    print(f"key {spoken}: compare it on the telephone with what ssh-keygen -lf keys/node.pub says at the hospital")
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

    try:
        serve(open_coordinator(args.dir), lambda text: print(f"{datetime.datetime.now():%H:%M:%S} {text}", flush=True))  # noqa: DTZ005 — local time
    except KeyboardInterrupt:
        print("stopped; hospitals wait, and come back when it starts again")
    return 0


def _add_status(actions: Any) -> None:
    parser = actions.add_parser("status", help="hospitals, the last run, disk, certificates; exit code 1 for findings")
    parser.add_argument("dir", type=Path, metavar="DIR")
    parser.add_argument("--json", action="store_true", help="all of it, for scripts")
    parser.set_defaults(run=_status)


def _status(args: argparse.Namespace) -> int:
    from app.deploy.coordinator import open_coordinator
    from app.deploy.status import status

    found = status(open_coordinator(args.dir))
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(_said(found)))
    return 1 if found["findings"] else 0


def _said(found: Mapping[str, Any]) -> Iterator[str]:
    yield f"coordinator {found['address']}: {'running' if found['running'] else 'not running'}"
    for name, facts in found["hospitals"].items():
        last = "in no round yet" if facts["last_round"] is None else f"last in round {facts['last_round']}"
        refusal = facts["last_refusal"]
        why = f", kept out of round {refusal['round']}: {refusal['code']}" if refusal else ""
        has = f", fedvox {facts['release']}" if facts["release"] else ""
        days = facts.get("certificate_days")
        ends = "" if days is None else f", certificate {days:.0f} days"
        yield f"hospital {name}: {facts['state']} {facts['since']}".rstrip() + f"{has}, {last}{why}{ends}"
    if run := found["run"]:
        answered = f"{len(run['answered'])} of {len(run['asked'])} hospitals answered"
        yield f"run {run['folder']}, started by {run['by']}: {run['state']}, round {run['round']}, {answered}"
    yield "versions: " + ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    yield "free: " + ", ".join(f"{gigabytes:g} GB for the {name}" for name, gigabytes in found["disk_gb"].items())
    yield "certificates: " + ", ".join(f"{name} {days:.0f} days" for name, days in found["certificate_days"].items())
    yield from (f"! {finding}" for finding in found["findings"])


def _add_revoke(actions: Any) -> None:
    parser = actions.add_parser("revoke", help="end a hospital's part; its key may not come back")
    parser.add_argument("hospital", metavar="NAME")
    _add_dir(parser)
    parser.set_defaults(run=_revoke)


def _revoke(args: argparse.Namespace) -> int:
    from app.deploy.coordinator import open_coordinator
    from app.deploy.enrolment import revoke

    gone = revoke(open_coordinator(args.dir), args.hospital)
    print(f"{gone.hospital} is revoked (key {gone.fingerprint}); a running coordinator shuts it out within seconds")
    return 0


def _add_rotate(actions: Any) -> None:
    parser = actions.add_parser("rotate", help="new server certificates; hospitals notice nothing")
    parser.add_argument("dir", type=Path, metavar="DIR")
    parser.set_defaults(run=_rotate)


def _rotate(args: argparse.Namespace) -> int:
    from app.deploy.coordinator import open_coordinator, rotate

    print(f"the new server certificate ends in {rotate(open_coordinator(args.dir)):.0f} days")
    return 0


def _add_bundle(actions: Any) -> None:
    parser = actions.add_parser("bundle", help="write the code that a run sends, for hospitals to approve")
    parser.add_argument("file", type=Path, metavar="OUT.fab")
    parser.set_defaults(run=_bundle)


def _bundle(args: argparse.Namespace) -> int:
    from app.deploy.export import write_bundle

    print(f"{args.file}: SHA-256 {write_bundle(args.file)}")
    print(f"each hospital: fedvox site approve DIR {args.file.name}")
    return 0


def _add_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dir", type=Path, default=Path(), metavar="DIR", help="the coordinator's folder (default: this folder)"
    )
