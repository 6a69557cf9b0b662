"""`fedvox site`: one hospital of a federation of real ones."""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.deploy.bundle import Bundle
    from app.deploy.hospital import Hospital

EPILOG = """\
examples:
  fedvox site init north --name north --data /data/ct --labels /data/ct/labels.csv --epsilon-cap 8
  fedvox site init north --kit kits/north        # when the coordinator has answered
  fedvox site approve north fedvox.fab
  fedvox site check north && fedvox site start north
"""

SHOWN_LINES = 200
"""Of a diff; all of it with --full."""


def add_parser(verbs: Any) -> None:
    """Add `site` to the verbs."""
    parser = verbs.add_parser(
        "site",
        help="run a hospital: make it, approve code, check everything, take part",
        description="The hospital's side of a federation on several machines; docs/deployment.md walks through it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for add in (_add_init, _add_approve, _add_check, _add_start):
        add(actions)


# --- init ---


def _add_init(actions: Any) -> None:
    parser = actions.add_parser("init", help="make a hospital's folder and key; take the coordinator's kit in")
    parser.add_argument("dir", type=Path, metavar="DIR")
    parser.add_argument("--name", help="as the coordinator will call it")
    parser.add_argument("--data", type=Path, metavar="PATH", help="the folder (or .npz) that holds the scans")
    parser.add_argument("--kind", default="dicom", help="what is there: dicom, luna16 or cubes (dicom)")
    parser.add_argument("--labels", type=Path, metavar="CSV", help="labels of DICOM (labels.csv in the folder)")
    parser.add_argument("--site", type=Path, metavar="SITE.yaml", help="take an existing site.yaml over instead")
    parser.add_argument("--device", help="auto, cpu, cuda, cuda:1 (auto)")
    parser.add_argument("--epsilon-cap", type=float, metavar="X", help="ε of all runs together (8)")
    parser.add_argument(
        "--mtls", action="store_true", help="the coordinator asks for a client certificate: make a request, or the next"
    )
    parser.add_argument("--systemd", action="store_true", help="write a systemd unit, too")
    parser.add_argument("--container", action="store_true", help="write a Dockerfile and a compose file, too")
    parser.add_argument("--user", help="the account that runs these (the folder's owner; fedvox where that is root)")
    parser.add_argument("--kit", type=Path, metavar="KIT", help="what the coordinator sent back")
    parser.set_defaults(run=_init)


def _init(args: argparse.Namespace) -> int:
    from app.deploy.hospital import make_hospital, open_hospital

    is_new = not _is_standing(args)
    hospital = make_hospital(args.dir, _settings(args)) if is_new else open_hospital(args.dir)
    if is_new:
        print(f"hospital {hospital.site().name} in {hospital.folder}")
        print(f"its public key, to be sent to the coordinator: {hospital.public_key}")
        print(hospital.public_key.read_text(encoding="utf-8").strip())
    for line in (*_request(args, hospital), *_services(args, hospital), *_joined(args, hospital)):
        print(line)
    if is_new:
        print(f"what it accepts stands in {hospital.site_file}; read it before you start")
    return 0


def _is_standing(args: argparse.Namespace) -> bool:
    """Whether something is added to a hospital that is there, and no new one is meant."""
    is_founding = any(given is not None for given in (args.name, args.data, args.site)) and args.kit is None
    is_adding = args.kit is not None or args.mtls or args.systemd or args.container
    return is_adding and not is_founding and (args.dir / "site.yaml").exists()


def _request(args: argparse.Namespace, hospital: "Hospital") -> Iterator[str]:
    from app.deploy.keys import make_request

    if args.mtls:
        request = hospital.folder / "keys" / "client.csr"
        make_request(hospital.client_key, request, hospital.site().name)
        yield f"its certificate request, to be sent with the public key {hospital.public_key}: {request}"


def _services(args: argparse.Namespace, hospital: "Hospital") -> list[str]:
    from app.deploy.service import Role, written

    site = hospital.site()
    reads = [Path(told) for told in site.source.values() if isinstance(told, str) and Path(told).is_absolute()]
    writes = [site.cache_dir, site.state_dir, site.ledger_key.parent]
    role = Role("site", hospital.folder, reads=reads, writes=writes, user=args.user)
    return written(role, systemd=args.systemd, container=args.container)


def _joined(args: argparse.Namespace, hospital: "Hospital") -> Iterator[str]:
    from app.deploy.hospital import join

    if args.kit is not None:
        kit, place = join(hospital, args.kit.expanduser()), args.dir
        yield f"hospital {kit.hospital} knows the coordinator at {kit.address}"
        yield f"next: fedvox site approve {place} BUNDLE, fedvox site check {place}, fedvox site start {place}"
        yield "one that is started takes a new certificate up when it is started again"


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    from app.deploy.founding import DEVICE, EPSILON_CAP, Founding, taken_over

    if args.site is not None:
        return taken_over(args.site) | ({"name": args.name} if args.name else {})
    is_told = args.name is not None and args.data is not None
    name = args.name or _asked("the hospital's name", "--name")
    data = args.data or Path(_asked("the folder that holds its scans", "--data"))
    # Who is asked for the one is asked for the other, too.
    device = args.device or (DEVICE if is_told else _asked("device: auto, cpu, cuda, cuda:1", "--device", DEVICE))
    cap = args.epsilon_cap
    if cap is None:
        cap = EPSILON_CAP if is_told else _number(_asked("ε of all runs together", "--epsilon-cap", f"{EPSILON_CAP:g}"))
    return Founding(name, data, args.kind, args.labels, device, cap).settings()


def _asked(what: str, flag: str, otherwise: str = "") -> str:
    """What a person at the terminal says; `otherwise` for an empty line, and where nobody is there."""
    from app.config import ConfigError

    shown = f" ({otherwise})" if otherwise else ""
    answer = (input(f"{what}{shown}: ").strip() if sys.stdin.isatty() else "") or otherwise
    if not answer:
        raise ConfigError(f"{what} is needed: give {flag}")
    return answer


def _number(text: str) -> float:
    from app.config import ConfigError

    try:
        return float(text)
    except ValueError as error:
        raise ConfigError(f"{text!r} is no number: give --epsilon-cap") from error


# --- approve ---


def _add_approve(actions: Any) -> None:
    parser = actions.add_parser("approve", help="look at a bundle and allow it; nothing else is answered")
    parser.add_argument("dir", type=Path, metavar="DIR")
    parser.add_argument("bundle", type=Path, nargs="?", metavar="BUNDLE", help="the .fab file; none: list approvals")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="'KEY=VALUE …'",
        help="answer it with this configuration alone, whoever takes part (seed=null: with any seed); may be repeated",
    )
    parser.add_argument("--full", action="store_true", help="show every line of the diff")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--withdraw", metavar="HASH", help="take an approval back")
    parser.set_defaults(run=_approve)


def _approve(args: argparse.Namespace) -> int:
    from app.deploy.approval import approve, withdraw
    from app.deploy.bundle import bundle_file
    from app.deploy.hospital import open_hospital

    hospital = open_hospital(args.dir)
    if args.withdraw:
        print(f"withdrawn: {withdraw(hospital, args.withdraw).sha256}")
        return 0
    if args.bundle is None:
        return _list(hospital)
    bundle, content = bundle_file(args.bundle)
    _show_difference(hospital, bundle, full=args.full)
    configurations = _show_allowed(hospital, args.only)
    _warn_of_other_code(bundle)
    if not args.yes and not _agreed():
        print("not approved")
        return 1
    made = approve(hospital, content, bundle, configurations)
    print(f"approved: {made.sha256}")
    return 0


def _list(hospital: "Hospital") -> int:
    from app.deploy.approval import approvals

    found = approvals(hospital)
    for approval in found:
        only = f"; only configurations {', '.join(approval.configurations)}" if approval.configurations else ""
        print(f"{approval.sha256}  code {approval.code}  {approval.approved}{only}")
    if not found:
        print("no bundle is approved: fedvox site approve DIR BUNDLE")
    return 0


def _show_difference(hospital: "Hospital", bundle: "Bundle", *, full: bool) -> None:
    from app.deploy.approval import last_bundle
    from app.deploy.bundle import changed, differences
    from app.deploy.foreign import shown

    print(f"bundle {bundle.sha256}: {len(bundle.files)} files, code {bundle.code}")
    last = last_bundle(hospital)
    if last is None:
        print("no bundle was approved before, so there is nothing to compare it with")
        return
    files = changed(last.files, bundle.files)
    print(f"against {last.sha256}, approved last: {len(files)} files differ")
    for name in files:
        print(f"  {shown(name, None)}")
    lines = list(differences(last.files, bundle.files))
    for line in lines if full else lines[:SHOWN_LINES]:
        # The approval rests on this review: nobody's comment may wipe the line above it.
        print(shown(line, None))
    if len(lines) > SHOWN_LINES and not full:
        print(f"… {len(lines) - SHOWN_LINES} lines more: --full")


def _show_allowed(hospital: "Hospital", only: list[str]) -> list[str]:
    """Print what a run may look like; the hashes of the configurations where there are only some."""
    from app.deploy.policy_check import CHANGEABLE, check_run
    from app.fingerprint import approval_hashes
    from app.privacy.terms import terms_of

    policy = hospital.site().policy
    print(f"limits of this hospital: {json.dumps(policy.get('accepted') or 'none; any run, private or not')}")
    if not only:
        print(f"settings a coordinator may change: {', '.join(policy.get('overrides', CHANGEABLE))}")
        return []
    hashes = []
    for line in only:
        config = check_run(policy, {"overrides": line})
        terms = terms_of(config)
        costs = "no privacy promised" if terms is None else f"ε {terms.promised:.3g} a {terms.part.unit}"
        hashes.append(approval_hashes(config)[0])
        print(f"configuration {hashes[-1]}: {line or 'as it stands'}: {config['rounds']} rounds, {costs}")
    return hashes


def _warn_of_other_code(bundle: "Bundle") -> None:
    from app.fingerprint import code_hash

    if bundle.code != code_hash():
        print(f"NOTE: installed here is code {code_hash()}; until the bundle's is, its runs are refused (policy-code)")


def _agreed() -> bool:
    from app.config import ConfigError

    if not sys.stdin.isatty():
        raise ConfigError("nobody is there to be asked: read the difference, then say --yes")
    return input("approve it? [y/N] ").strip().lower() in ("y", "yes")


# --- check ---


def _add_check(actions: Any) -> None:
    parser = actions.add_parser("check", help="data, GPU, disk, clock, coordinator, certificate, ledger: a line each")
    parser.add_argument("dir", type=Path, metavar="DIR")
    parser.add_argument("--no-data", action="store_true", help="leave the scans alone")
    parser.add_argument("--pixels", action="store_true", help="read every scan, not headers alone")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_check)


def _check(args: argparse.Namespace) -> int:
    from dataclasses import asdict

    from app.deploy.hospital import open_hospital
    from app.deploy.readiness import look

    findings = look(open_hospital(args.dir), data=not args.no_data, pixels=args.pixels)
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            print(finding.line)
    return 1 if any(finding.level == "REFUSED" for finding in findings) else 0


# --- start ---


def _add_start(actions: Any) -> None:
    parser = actions.add_parser("start", help="take part until Ctrl-C or SIGTERM; starts itself again when it falls")
    parser.add_argument("dir", type=Path, metavar="DIR")
    parser.set_defaults(run=_start)


def _start(args: argparse.Namespace) -> int:
    from app.deploy.hospital import open_hospital
    from app.deploy.supervision import stamped, supervise

    supervise(open_hospital(args.dir), lambda text: print(stamped(text), flush=True))
    return 0
