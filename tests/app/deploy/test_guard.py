import io
import zipfile

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from app.deploy import audit_log, guard
from app.deploy.approval import approve
from app.deploy.bundle import read_bundle
from app.deploy.founding import Founding
from app.deploy.hospital import make_hospital
from app.rounds.roster import HELLO
from strategies import records
from strategies.types import Plan

PRIVATE = "Mustermann^Erika"


@pytest.fixture(scope="module")
def bundle():
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("app/client_app.py", "raise SystemExit('the code of a bundle runs nowhere')")
    return held.getvalue()


@pytest.fixture(autouse=True)
def task(monkeypatch):
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture
def hospital(tmp_path, bundle, monkeypatch):
    made = make_hospital(tmp_path / "north", Founding("north", tmp_path).settings())
    approve(made, bundle, read_bundle(bundle))
    monkeypatch.setattr(guard, "code_hash", lambda: read_bundle(bundle).code)
    return made


class App:
    """Stands for the installed ClientApp: counts its calls, and answers or fails."""

    def __init__(self, error=None):
        self.error, self.contexts = error, []

    def __call__(self, message, context):
        self.contexts.append(context)
        if self.error is not None:
            raise self.error
        return Message(RecordDict({"report": ConfigRecord({"hospital": "north", "loss": 0.5})}), reply_to=message)


def respond(hospital, bundle, app, overrides="experiment=demo", kind="train", **plan):
    made = Plan(run="r1", leg="", round=3, rounds=5, seed=0, hospital="north", fold=-1).record()
    content = RecordDict({records.PLAN: ConfigRecord({**made, **plan}), "model": ArrayRecord()})
    message = Message(content, 7, kind, ttl=60.0)
    message.metadata.__dict__["_message_id"] = "1"
    config = {"overrides": overrides}
    context = Context(run_id=1, node_id=7, node_config={"site": "theirs"}, state=RecordDict(), run_config=config)
    return guard.respond(hospital, app, message, context, bundle)


def refusal(answer):
    """What a refusal says; and that it says nothing else."""
    assert set(answer.reply.content) == {"report"}
    report = dict(answer.reply.content["report"])
    assert set(report) == {"declined", "hospital", "salt"}
    assert report["hospital"] == "north"
    return report["declined"]


def test_an_approved_bundle_is_answered_by_what_is_installed_with_the_hospitals_own_file(hospital, bundle):
    app = App()
    answer = respond(hospital, bundle, app)
    assert answer.told["loss"] == 0.5
    assert app.contexts[0].node_config == {"site": str(hospital.site_file)}
    assert (answer.opening.hospital, answer.opening.run, answer.opening.site_file) == (
        "north", "r1", str(hospital.site_file),
    )  # fmt: skip


@pytest.mark.parametrize("altered", [b"\0", b"more"])
def test_an_altered_bundle_is_refused_and_nothing_runs(hospital, bundle, altered):
    app = App()
    answer = respond(hospital, bundle + altered, app)
    assert refusal(answer) == "policy-bundle"
    assert not app.contexts
    assert answer.opening is None


def test_code_that_is_not_installed_here_is_refused(hospital, bundle, monkeypatch):
    monkeypatch.setattr(guard, "code_hash", lambda: "another")
    app = App()
    assert refusal(respond(hospital, bundle, app)) == "policy-code"
    assert not app.contexts


def test_a_hash_in_the_site_file_does_not_pass_other_code(hospital, bundle, monkeypatch):
    for path in hospital.approved.iterdir():
        path.unlink()
    text = hospital.site_file.read_text()
    hospital.site_file.write_text(text.replace("approved_code: []", f"approved_code: [{read_bundle(bundle).sha256}]"))
    assert not respond(hospital, bundle, App()).refused
    monkeypatch.setattr(guard, "code_hash", lambda: "another")
    assert refusal(respond(hospital, bundle, App())) == "policy-code"


def test_settings_outside_of_the_policy_are_refused_before_the_app_sees_them(hospital, bundle):
    app = App()
    assert refusal(respond(hospital, bundle, app, "source.path=elsewhere")) == "policy-override"
    assert refusal(respond(hospital, bundle, app, "federation.name=${oc.env:HOME}")) == "policy-text"
    assert not app.contexts


@pytest.mark.parametrize(
    "plan",
    [
        {"run": "../../site"},
        {"run": ".."},
        {"leg": "a/../../b"},
        {"run": ""},
        {"run": "x\x1b[2J"},
        {"round": 1.5},
        {"seed": "1"},
    ],
)
def test_a_plan_that_could_name_another_place_on_the_disk_is_refused(hospital, bundle, plan):
    app = App()
    answer = respond(hospital, bundle, app, **plan)
    assert refusal(answer) == "policy-plan"
    assert guard.line(answer).isprintable()
    assert not app.contexts


ROUNDS = "experiment=demo rounds=5"


@pytest.mark.parametrize(
    ("kind", "round"), [("train", 6), ("train", 0), ("train", -1), ("evaluate", 6), ("train.x", 6)]
)
def test_rounds_that_the_accepted_configuration_does_not_have_are_refused(hospital, bundle, kind, round):
    app = App()
    assert refusal(respond(hospital, bundle, app, ROUNDS, kind, round=round, rounds=99)) == "policy-plan"
    assert not app.contexts


@pytest.mark.parametrize(("kind", "round"), [("train", 1), ("train", 5), ("evaluate", 5), ("query.statistics", 0)])
def test_those_that_it_has_are_answered_as_often_as_they_are_asked(hospital, bundle, kind, round):
    for _ in range(2):
        assert not respond(hospital, bundle, App(), ROUNDS, kind, round=round).refused


def test_a_run_whose_memory_was_removed_is_refused_by_that_name(hospital, bundle):
    (hospital.site().state_dir / "removed-runs").write_text("r0\n")
    assert refusal(respond(hospital, bundle, App(), run="r0")) == "run-forgotten"
    assert not respond(hospital, bundle, App(), run="r1").refused
    assert (hospital.site().state_dir / "runs" / "r1").is_dir()


def test_a_run_may_be_called_as_a_folder_may(hospital, bundle):
    assert not respond(hospital, bundle, App(), run="my run (2) ε=8-1a2b", leg="A-fold0").refused


def test_a_message_without_a_plan_is_refused_with_a_code(hospital, bundle):
    message = Message(RecordDict(), 7, "train", ttl=60.0)
    message.metadata.__dict__["_message_id"] = "1"
    config = {"overrides": "experiment=demo"}
    context = Context(run_id=1, node_id=7, node_config={}, state=RecordDict(), run_config=config)
    assert refusal(guard.respond(hospital, App(), message, context, bundle)) == "internal"


def test_a_policy_that_was_changed_meanwhile_counts_from_the_next_message(hospital, bundle):
    assert not respond(hospital, bundle, App()).refused
    text = hospital.site_file.read_text()
    hospital.site_file.write_text(text.replace("accepted: {}", "accepted: {unit: [patient]}"))
    assert refusal(respond(hospital, bundle, App())) == "policy-unit"


def test_tasks_of_flower_that_are_no_clients_are_declined(hospital, bundle):
    assert refusal(respond(hospital, bundle, guard.other_task)) == "policy-task"


@pytest.mark.parametrize("error", [ValueError(PRIVATE), OSError(2, PRIVATE), RuntimeError(PRIVATE), KeyError(PRIVATE)])
def test_whatever_goes_wrong_leaves_as_a_code_and_the_hospitals_name(hospital, bundle, error):
    answer = respond(hospital, bundle, App(error))
    assert refusal(answer) in ("internal", "system", "disk", "configuration")
    assert PRIVATE not in str(answer.reply)


def test_a_site_file_that_cannot_be_read_any_more_is_a_code_as_well(hospital, bundle):
    hospital.approved.joinpath(f"{read_bundle(bundle).sha256}.json").write_text(PRIVATE)
    assert refusal(respond(hospital, bundle, App())) == "internal"


def test_two_refusals_are_two_objects(hospital, bundle):
    replies = [respond(hospital, bundle + b"x", App()).reply.content["report"]["salt"] for _ in range(2)]
    assert replies[0] != replies[1]


def test_who_it_is_a_hospital_says_without_asking_any_bundle(hospital, bundle):
    app = App()
    answer = respond(hospital, bundle + b"altered", app, kind=HELLO)
    assert dict(answer.reply.content["hello"]) == {"hospital": "north"}
    assert not app.contexts


def test_the_audit_log_has_what_was_answered_and_what_was_refused(hospital, bundle):
    for answer in (respond(hospital, bundle, App()), respond(hospital, bundle + b"x", App())):
        guard.record(hospital, answer)
    answered, refused = audit_log.read(hospital.folder / "audit.jsonl")[-2:]
    assert (answered["event"], answered["run"], answered["round"], answered["kind"]) == ("answered", "r1", 3, "train")
    assert answered["bundle"] == read_bundle(bundle).sha256
    assert len(answered["settings"]) == 16
    assert (refused["event"], refused["code"], refused["settings"]) == ("refused", "policy-bundle", "")
    assert refused["bundle"] != answered["bundle"]


def test_what_cannot_be_written_down_does_not_leave(hospital, bundle):
    (hospital.folder / "audit.jsonl").unlink()
    (hospital.folder / "audit.jsonl").mkdir()
    assert refusal(guard.settled(hospital, respond(hospital, bundle, App()))) == "disk"


def test_the_console_says_what_is_done_and_what_was_refused(hospital, bundle):
    assert guard.line(respond(hospital, bundle, App())).startswith("run r1 round 3: train answered in")
    assert "REFUSED with code policy-bundle" in guard.line(respond(hospital, bundle + b"x", App()))
