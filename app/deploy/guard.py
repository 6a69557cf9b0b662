"""The guard: what stands between Flower's SuperNode and this hospital's patients. Outside of every bundle.

For each message, in a process of its own: the bundle's bytes are hashed here and must be approved; the code they hold
must be the code that is installed; the settings must pass the hospital's policy as they resolve here. Then the
installed fedvox answers, never a file of the bundle. Whatever is refused leaves as a code and the hospital's name.

It proves which code ran. It does not prove that the code is private: that is what the approval's diff is read for.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from flwr.app import ConfigRecord, Context, Message, RecordDict

from app.config import Config
from app.deploy.approval import Approval, approval_of
from app.deploy.bundle import digest, read_bundle
from app.deploy.foreign import shown
from app.deploy.hospital import Hospital
from app.deploy.policy_check import check_plan, check_run
from app.fingerprint import code_hash, config_hash
from app.rounds.roster import HELLO
from app.site.kept_runs import KeptRuns
from app.site.place import Opening
from app.site.shield import Declined, Handler, shielded
from strategies import records

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
    """What a message asks of the hospital, for its log."""

    kind: str
    run: str
    leg: str
    round: int
    bundle: str
    settings: str
    """Hash of the resolved configuration; empty where it was not accepted."""


@dataclass(frozen=True)
class Answer:
    """What is about to leave, and what it was given for."""

    message: Message
    reply: Message
    asked: Asked
    seconds: float
    opening: Opening | None = None
    """What it had to open; None where it was refused before, or needed nothing."""

    @property
    def refused(self) -> str:
        """The code of a refusal; empty where the hospital took part."""
        return records.declined(self.reply)

    @property
    def told(self) -> Mapping[str, Any]:
        """The facts that go along."""
        return dict(records.configs_of(self.reply.content).get(records.REPORT, {}))

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors that leave."""
        return records.tensor_nbytes(self.reply)


def respond(hospital: Hospital, app: Handler, message: Message, context: Context, bundle: bytes) -> Answer:
    """Judge a message and answer it, or refuse it. Never raises for what a coordinator sent.

    Args:
        hospital: this one.
        app: the installed ClientApp.
        message: what is asked.
        context: Flower's, with the coordinator's run configuration; the node's configuration is replaced by ours.
        bundle: the bytes that came with the run.
    """
    started = time.monotonic()
    site, accepted = hospital.site(), list[Config]()

    def judged(message: Message, context: Context) -> Message:
        config = admit(hospital, context.run_config, bundle)
        plan = records.read_plan(message)
        check_plan(plan, message.metadata.message_type, config)
        KeptRuns(site.state_dir, site.keep_runs).begin(plan.run)
        accepted.append(config)
        context.node_config = {"site": str(hospital.site_file)}
        return app(message, context)

    if message.metadata.message_type == HELLO:
        # A name, which the coordinator wrote down at enrolment; asked before any bundle can have been judged.
        reply = Message(RecordDict({"hello": ConfigRecord({"hospital": site.name})}), reply_to=message)
    else:
        reply = _signed(shielded(judged)(message, context), site.name)
    asked = _asked(message, digest(bundle), config_hash(accepted[0]) if accepted else "")
    opening = Opening.of(context, records.read_plan(message)) if accepted else None
    return Answer(message, reply, asked, time.monotonic() - started, opening)


def admit(hospital: Hospital, run_config: Mapping[str, Any], bundle: bytes) -> Config:
    """The run's configuration, where the hospital answers such a run.

    Raises:
        Declined: policy-bundle for bytes that nobody approved; policy-code where what is installed is other code than
            the bundle's; what `policy_check` refuses.
        ConfigError: the hospital's own file cannot be read.
    """
    approval = approval_of(hospital, digest(bundle))
    if approval is None:
        raise Declined("policy-bundle", f"bundle {digest(bundle)} is not approved: fedvox site approve DIR BUNDLE")
    _check_code(approval, bundle)
    return check_run(hospital.site().policy, run_config, approval.configurations)


def other_task(message: Message, context: Context) -> Message:
    """In the app's place where Flower hands out another task than a ClientApp's. Raises Declined."""
    raise Declined("policy-task", "a task that is no ClientApp's (an agent, a model, a connector) runs nothing here")


def record(hospital: Hospital, answer: Answer) -> None:
    """Write down what is about to leave. Raises OSError; then nothing may."""
    event = "refused" if answer.refused else "answered"
    facts = {"code": answer.refused} if answer.refused else {"bytes": answer.nbytes, **_spent(answer)}
    hospital.record(event, **asdict(answer.asked), seconds=round(answer.seconds, 3), **facts)


def settled(hospital: Hospital, answer: Answer) -> Answer:
    """What may leave: the answer, now that it is written down; a refusal where that failed (`disk`)."""
    try:
        record(hospital, answer)
    except OSError as error:
        log.warning("an answer stays here, since it could not be written down: %s", error)
        return replace(answer, reply=_signed(records.decline(answer.message, "disk"), hospital.site().name))
    return answer


def line(answer: Answer) -> str:
    """The same for the hospital's console."""
    asked = answer.asked
    where = f"run {asked.run} round {asked.round}: " if asked.run else ""
    if answer.refused:
        return f"{where}{asked.kind} REFUSED with code {answer.refused} (its words are in logs/hospital.log)"
    spent = _spent(answer)
    paid = f"; ε {spent['spent']:.3g} of {spent['cap']:.3g} spent" if spent else ""
    return f"{where}{asked.kind} answered in {answer.seconds:.1f} s, {answer.nbytes / 1e6:.2f} MB{paid}"


def beginning(message: Message) -> str:
    """What is being done, for the hospital's console."""
    asked = _asked(message, "", "")
    return f"run {asked.run} round {asked.round}: {asked.kind} …" if asked.run else f"{asked.kind} …"


def _check_code(approval: Approval, bundle: bytes) -> None:
    code = approval.code or read_bundle(bundle).code
    if code != code_hash():
        raise Declined(
            "policy-code",
            f"the bundle holds code {code}, installed is {code_hash()}: install the release that the bundle is of, or "
            "ask the coordinator for the bundle of this one",
        )


def _signed(reply: Message, hospital: str) -> Message:
    """A refusal says whose it is."""
    if records.declined(reply):
        reply.content[records.REPORT] = ConfigRecord(
            {**records.configs_of(reply.content)[records.REPORT], "hospital": hospital}
        )
    return reply


def _asked(message: Message, bundle: str, settings: str) -> Asked:
    """For the log, from a message that may hold anything."""
    kind = shown(message.metadata.message_type)
    configs = records.configs_of(message.content) if message.has_content() else {}
    plan = configs.get(records.PLAN, ConfigRecord())
    number = plan.get("round")
    round = number if isinstance(number, int) else 0
    return Asked(kind, shown(plan.get("run", "")), shown(plan.get("leg", "")), round, bundle, settings)


def _spent(answer: Answer) -> dict[str, float]:
    """What private training has cost so far, where the answer states it."""
    told = answer.told
    return {key: float(told[key]) for key in ("epsilon", "spent", "cap") if told.get("epsilon") is not None}
