"""What a hospital answers. Each handler reads the plan, does the work at the site, and lets only numbers leave."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from app.rounds.roster import HELLO, STATISTICS
from app.site.outgoing import kept, terms_asked
from app.site.shield import Handler, shielded

if TYPE_CHECKING:
    from app.privacy.payment import Statement

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train on the hospital's own patients: model and plan in; delta and report out."""
    return _answered(_train, message, context)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Score a model on the patients that never trained one: model and plan in; score histograms out."""
    return _answered(_evaluate, message, context)


@app.query(HELLO.partition(".")[2])
def hello(message: Message, context: Context) -> Message:
    """Say which hospital this node is."""
    return _answered(_hello, message, context)


@app.query(STATISTICS.partition(".")[2])
def statistics(message: Message, context: Context) -> Message:
    """Say what the hospital's data measure, so that one that would poison the others is seen before round 1."""
    return _answered(_statistics, message, context)


def _answered(handler: Handler, message: Message, context: Context) -> Message:
    """The answer, packed where the question was."""
    from strategies import records

    reply = shielded(kept(handler, terms_asked))(message, context)
    return records.packed([reply])[0] if records.came_packed(message) else reply


def _train(message: Message, context: Context) -> Message:
    from app.privacy.payment import pay, stated
    from app.site.place import visit
    from app.site.work import train as train_at
    from strategies import records

    plan, received, control = records.read_plan(message), records.read_model(message), records.read_control(message)
    with visit(context, plan) as place:

        def answer(statement: "Statement | None") -> Message:
            encoded, report, change = train_at(place, plan, received, control)
            return records.reply(message, encoded, stated(report, statement), change)

        return pay(place, message, plan, "round", answer)


def _evaluate(message: Message, context: Context) -> Message:
    from app.privacy.payment import pay
    from app.site.place import visit
    from app.site.work import evaluate as evaluate_at
    from strategies import records

    plan, received = records.read_plan(message), records.read_model(message)
    split = str(records.read_ask(message).get("split", "test"))
    with visit(context, plan) as place:

        def answer(statement: "Statement | None") -> Message:
            facts, scores = evaluate_at(place, plan, received, split)
            return records.scores(message, {**facts, **(asdict(statement) if statement else {})}, scores)

        return pay(place, message, plan, "scoring", answer)


def _statistics(message: Message, context: Context) -> Message:
    from app.site.introduction import introduce
    from strategies import records

    return records.scores(message, introduce(context, records.read_plan(message)))


def _hello(message: Message, context: Context) -> Message:
    from app.site.site_file import read_site_file

    name = read_site_file(Path(str(context.node_config["site"]))).name
    return Message(RecordDict({"hello": ConfigRecord({"hospital": name})}), reply_to=message)
