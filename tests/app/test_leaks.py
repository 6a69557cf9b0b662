"""Identifiers are planted wherever a hospital's data can hold text; none is in any byte that leaves.

Planted in every text-bearing tag of every DICOM file, in file and folder names, in the labels' table and in what each
error says. What leaves is what the real client app answers: every reply is turned into the bytes that travel.
"""

import hashlib
import importlib
import pkgutil
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.common.serde import recorddict_to_proto
from flwr.supercore.task_identity import TaskIdentity
from pydicom.datadict import DicomDictionary, keyword_for_tag
from pydicom.dataelem import DataElement

import data
from app.client_app import app as client
from app.config import ConfigError, build, compose, to_line
from app.fingerprint import code_hash, config_hash
from app.rounds.roster import HELLO, STATISTICS
from app.site import place
from app.site.budget import BudgetError
from app.site.shield import Declined
from data.errors import DataError
from models.parameters import get_tensors
from strategies import records
from strategies.errors import PartError, RecordError
from strategies.records.arrays import to_record
from strategies.types import Plan
from tests.app.rounds import spoiled

MARK = "Zqxj"
"""In every planted text; nothing of ours has it."""
UID = "1.2.826.0.9988776655"
"""Begins every planted UID."""
TEXT_VRS = {"AE": 16, "CS": 16, "LO": 64, "LT": 200, "PN": 64, "SH": 16, "ST": 200, "UC": 200, "UR": 64, "UT": 200}
"""VR → longest planted value."""
STRUCTURAL = {"SpecificCharacterSet", "Modality", "ImageType", "PhotometricInterpretation", "PatientPosition"}
"""Text by which a file is read at all; no room for a name."""


def poison() -> dict[int, DataElement]:
    """An element for every text-bearing tag of the dictionary, as the scanner, a clerk or a converter might fill it."""
    made = {}
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        if vr in TEXT_VRS and tag >> 16 > 0x0002 and keyword not in STRUCTURAL and tag >> 16 < 0x7FE0:
            text = f"{MARK} {keyword}"[: TEXT_VRS[vr]]
            made[tag] = DataElement(tag, vr, {"CS": text.upper(), "UR": text.replace(" ", "-")}.get(vr, text))
    return made


@pytest.fixture(autouse=True)
def task(monkeypatch):
    """Flower's messages ask which task makes them."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture(scope="module")
def hospital(tmp_path_factory) -> Path:
    """A hospital whose every name and header tells of patients."""
    root = tmp_path_factory.mktemp(f"{MARK} archive")
    clean = spoiled.write_hospitals(tmp_path_factory.mktemp("clean"), {"north": "PHILIPS"}) / "north"
    site = spoiled.spoiled(clean, root / f"{MARK} Anna Berg", _plant)
    shutil.rmtree(clean)
    file = site / "site.yaml"
    file.write_text(file.read_text().replace("min_patients: 5", "min_patients: 1"))  # so few train here
    return site


def _plant(folder: Path) -> None:
    elements, uids = poison(), {}
    for number, patient in enumerate(sorted(path for path in folder.iterdir() if path.is_dir())):
        home = folder / f"{MARK}^{number}, born 19600101"
        home.mkdir()
        for i, file in enumerate(sorted(patient.iterdir())):
            dataset = pydicom.dcmread(file)
            uids.setdefault(str(dataset.SeriesInstanceUID), f"{UID}.{number}")
            for tag in elements if i == 0 else list(elements)[:40]:
                dataset[tag] = elements[tag]
            dataset.PatientID, dataset.Manufacturer = f"{MARK}-{number}", f"{MARK} MAKER"
            dataset.PatientName = f"{MARK}^Anna"
            dataset.SeriesInstanceUID = dataset.StudyInstanceUID = dataset.FrameOfReferenceUID = f"{UID}.{number}"
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{UID}.{number}.{i}"
            dataset.save_as(home / f"{MARK} {i}.dcm")
        shutil.rmtree(patient)
    spoiled.labels(lambda row: {**row, "series_uid": uids[row["series_uid"]]})(folder)


class Border:
    """Asks the real client app and keeps the bytes of its answers."""

    def __init__(self, hospital: Path, *overrides: str) -> None:
        self.settings = [
            "federation=sites", "federation.sites=null", "model=tiny", "training.batch_size=16", "replicates=5",
            f"++federation.hospitals.north={{site: {_quoted(hospital / 'site.yaml')}}}", *overrides,
        ]  # fmt: skip
        self.site = hospital / "site.yaml"
        config = compose(self.settings)
        self.plan = Plan(
            run="run", leg="", round=1, rounds=1, hospital="north", seed=0, fold=-1,
            code=code_hash(), config=config_hash(config),
        )  # fmt: skip
        self.model = to_record(get_tensors(build(config["model"])))

    def ask(self, kind: str) -> tuple[Message, bytes]:
        model = self.model if kind in ("train", "evaluate") else ArrayRecord()
        message = records.request(1, kind, self.plan, model=model, ttl_s=600)
        message.metadata.__dict__.update(_run_id=1, _message_id="1")
        run_config = {"overrides": to_line(self.settings)}
        context = Context(1, 1, {"site": str(self.site)} if kind == HELLO else {}, RecordDict(), run_config)
        reply = client(message, context)
        return reply, _bytes(reply)


def _quoted(path: Path) -> str:
    return f'"{path}"'


def _bytes(reply: Message) -> bytes:
    """Everything of a message that travels."""
    error = repr(reply.error.reason).encode() if reply.has_error() else b""
    content = b"" if reply.has_error() else recorddict_to_proto(reply.content).SerializeToString()
    return content + repr(vars(reply.metadata)).encode() + error


def leaked(sent: bytes) -> list[str]:
    """Planted things found in bytes: as text of any common encoding, any case, or hashed without a key."""
    lower = sent.lower()
    texts = [MARK, UID, "Anna", "Berg", "19600101"]
    found = [text for text in texts for code in ("utf-8", "utf-16-le") if text.lower().encode(code) in lower]
    for secret in [f"{MARK}-{n}" for n in range(spoiled.PATIENTS)] + [f"{UID}.{n}" for n in range(spoiled.PATIENTS)]:
        for digest in (hashlib.sha256, hashlib.sha1, hashlib.md5):
            made = digest(secret.encode())
            found += [secret for form in (made.digest()[:8], made.hexdigest()[:12].encode()) if form in sent]
    return found


def test_the_trap_works(hospital):
    """What is looked for is really there, and would be found."""
    file = next((hospital / "data").rglob("*.dcm"))
    assert MARK in str(file)
    planted = pydicom.dcmread(file)
    assert str(planted.SeriesInstanceUID).startswith(UID)
    first = min((hospital / "data").rglob(f"{MARK} 0.dcm"))
    texts = [element for element in pydicom.dcmread(first) if element.VR in TEXT_VRS]
    assert len([element for element in texts if MARK.lower() in str(element.value).lower()]) > 1000
    assert leaked(f"a {MARK.lower()} in it".encode()) == [MARK]
    assert leaked(hashlib.sha256(f"{MARK}-0".encode()).digest()) == [f"{MARK}-0"]
    assert keyword_for_tag(0x00100010) == "PatientName"


@pytest.mark.parametrize("kind", [HELLO, STATISTICS, "train", "evaluate"])
def test_no_answer_holds_an_identifier(hospital, kind):
    reply, sent = Border(hospital).ask(kind)
    assert "declined" not in reply.content.config_records.get("report", {})
    assert leaked(sent) == []


@pytest.mark.parametrize(
    "strategy", ["scaffold", "compressed", "fedbn", "ditto", "quality"]
)  # what more leaves: control variates, codecs' groups, fewer tensors, own scores
def test_nor_does_any_algorithm_s(hospital, strategy):
    border = Border(hospital, f"strategy={strategy}")
    for kind in ("train", "evaluate"):
        reply, sent = border.ask(kind)
        assert "declined" not in reply.content["report"]
        assert leaked(sent) == []


def errors() -> Iterator[type[DataError]]:
    for module in pkgutil.walk_packages(data.__path__, "data."):
        importlib.import_module(module.name)
    found = [DataError]
    for kind in found:
        found += kind.__subclasses__()
    yield from found


@pytest.mark.parametrize("error", list(errors()), ids=lambda error: error.__name__)
@pytest.mark.parametrize("kind", [STATISTICS, "train", "evaluate"])
def test_no_error_takes_its_words_along(hospital, monkeypatch, error, kind):
    def fail(*_, **__):
        raise error(SAID)

    monkeypatch.setattr(place, "open_site", fail)
    for cached in (place._site, place._open, place._opened):
        cached.cache_clear()
    reply, sent = Border(hospital).ask(kind)
    assert reply.content["report"]["declined"] == error.code
    assert leaked(sent) == []


SAID = f"/data/{MARK} Anna/IM1.dcm: patient {MARK}-0 has series {UID}.0; born 19600101"


def _beyond_data() -> list[Exception]:
    """What else goes wrong at a hospital, each with words that must stay there."""
    return [
        BudgetError("budget-disk", SAID),
        ConfigError(SAID),
        PartError(SAID),
        RecordError(SAID),
        Declined("policy-anything", SAID),
        Declined(f"{MARK} Anna, {UID}.0", SAID),  # a code that is none
        FileNotFoundError(2, SAID, SAID),
        PermissionError(13, SAID, SAID),
        OSError(28, SAID),
        UnicodeDecodeError("utf-8", SAID.encode(), 0, 1, SAID),
        pydicom.errors.InvalidDicomError(SAID),
        ExceptionGroup(SAID, [ValueError(SAID)]),
        *(kind(SAID) for kind in (KeyError, ValueError, RuntimeError, MemoryError, FloatingPointError, AssertionError)),
    ]


@pytest.mark.parametrize("error", _beyond_data(), ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("kind", [STATISTICS, "train"])
def test_nor_does_anything_else_that_goes_wrong(hospital, monkeypatch, error, kind):
    def fail(*_, **__):
        raise error from ValueError(SAID)

    monkeypatch.setattr(place, "open_site", fail)
    for cached in (place._site, place._open, place._opened):
        cached.cache_clear()
    reply, sent = Border(hospital).ask(kind)
    assert records.SAFE_CODE.fullmatch(reply.content["report"]["declined"])
    assert leaked(sent) == []


def test_nor_does_a_hospital_file_that_cannot_be_read(hospital, tmp_path):
    border = Border(hospital)
    border.site = tmp_path / f"{MARK} Anna" / "site.yaml"
    reply, sent = border.ask(HELLO)
    assert reply.content["report"]["declined"] == "configuration"
    assert leaked(sent) == []


def _truncated(folder: Path) -> None:
    file = next(folder.rglob("*.dcm"))
    file.write_bytes(file.read_bytes()[:4000])


def _no_patient(folder: Path) -> None:
    spoiled.headers(lambda dataset: setattr(dataset, "PatientID", ""))(folder)


def _missing_slice(folder: Path) -> None:
    sorted(folder.rglob("*.dcm"))[20].unlink()


def _unknown_series(folder: Path) -> None:
    spoiled.labels(lambda row: {**row, "series_uid": f"{UID}.999"})(folder)


def _bad_cell(folder: Path) -> None:
    spoiled.labels(lambda row: {**row, "x_mm": MARK})(folder)


FAULTS = [_truncated, _no_patient, _missing_slice, _unknown_series, _bad_cell, spoiled.in_the_corner]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__.strip("_"))
def test_nor_does_a_fault_on_disk(hospital, tmp_path, fault):
    broken = spoiled.spoiled(hospital, tmp_path / f"{MARK} broken", fault)
    for kind in (STATISTICS, "train"):
        _, sent = Border(broken).ask(kind)
        assert leaked(sent) == []


def test_what_is_measured_is_numbers_of_known_names(hospital):
    reply, _ = Border(hospital).ask(STATISTICS)
    report = dict(reply.content["report"])
    texts = {key: value for key, value in report.items() if isinstance(value, str)}
    assert texts.keys() == {"hospital", "salt"}
    assert not any(key.startswith("vendor.") for key in report)  # all the scanners of an unknown maker
    assert all(np.isfinite(v) for key, v in report.items() if key.startswith("number."))
