import shutil

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_ssh_public_key

from app.config import ConfigError
from app.deploy.enrolment import read_key as read_public_key
from app.deploy.errors import DeployError
from app.deploy.founding import Founding, taken_over
from app.deploy.hospital import join, make_hospital, open_hospital, read_kit
from app.deploy.keys import read_key


@pytest.fixture
def data(tmp_path):
    (tmp_path / "ct").mkdir()
    return tmp_path / "ct"


@pytest.fixture
def hospital(tmp_path, data):
    return make_hospital(tmp_path / "north", Founding("north", data).settings())


@pytest.fixture
def kit(tmp_path):
    folder = tmp_path / "kit-of-the-coordinator"
    folder.mkdir()
    (folder / "ca.crt").write_text("authority")
    (folder / "kit.yaml").write_text("hospital: north\naddress: ct.example.org:8443\nmtls: false\n")
    return folder


def test_a_new_hospital_has_all_of_its_own_and_nobody_else_may_look_inside(hospital, data):
    site = hospital.site()
    assert site.source == {"_target_": "data.sources.DicomFolder", "path": str(data)}
    assert {site.cache_dir, site.state_dir} == {hospital.folder / "cache", hospital.folder / "state"}
    assert site.ledger_key.parent != site.state_dir
    assert hospital.folder.stat().st_mode & 0o777 == 0o700
    assert hospital.key.stat().st_mode & 0o777 == 0o600


def test_its_key_is_one_that_the_coordinator_can_enrol(hospital):
    public = load_ssh_public_key(hospital.public_key.read_bytes())
    assert public.curve.name == "secp384r1"
    assert public.public_numbers() == read_key(hospital.key).public_key().public_numbers()
    assert read_public_key(hospital.public_key).public_numbers() == public.public_numbers()


def test_a_second_init_leaves_key_and_file_alone(hospital, data):
    before = hospital.key.read_bytes()
    with pytest.raises(DeployError, match=r"stands in .* already"):
        make_hospital(hospital.folder, Founding("south", data).settings())
    assert hospital.key.read_bytes() == before


def test_a_name_that_could_be_a_path_is_refused(tmp_path, data):
    with pytest.raises(DeployError, match="no name for a hospital"):
        make_hospital(tmp_path / "x", Founding("../x", data).settings())


def test_settings_that_no_site_file_may_hold_leave_no_hospital_behind(tmp_path, data):
    with pytest.raises(ConfigError, match="device"):
        make_hospital(tmp_path / "x", Founding("x", data).settings() | {"device": 1})
    with pytest.raises(DeployError, match="no hospital's folder"):
        open_hospital(tmp_path / "x")


def test_data_that_are_not_there_are_named_before_anything_is_made(tmp_path):
    with pytest.raises(DeployError, match="no data in"):
        Founding("x", tmp_path / "nowhere").settings()


def test_labels_go_with_dicom_alone(data):
    assert Founding("x", data, labels=data / "l.csv").settings()["source"]["labels"] == str(data / "l.csv")
    with pytest.raises(DeployError, match="--labels goes with DICOM"):
        Founding("x", data, "luna16", labels=data / "l.csv").settings()


def test_an_existing_hospital_is_taken_over_with_its_ledger_where_it_was(hospital, tmp_path):
    moved = make_hospital(tmp_path / "deployed", taken_over(hospital.site_file))
    assert moved.site() == hospital.site()
    assert moved.key.read_bytes() != hospital.key.read_bytes()


def test_a_kit_is_taken_in_once_or_again(hospital, kit):
    assert join(hospital, kit) == hospital.kit()
    assert join(hospital, kit).address == "ct.example.org:8443"
    assert hospital.authority.read_text() == "authority"
    assert join(hospital, hospital.folder / "kit").hospital == "north"


def test_the_kit_of_another_hospital_is_refused(hospital, kit):
    (kit / "kit.yaml").write_text("hospital: south\naddress: ct.example.org:8443\n")
    with pytest.raises(DeployError, match="kit of hospital 'south'"):
        join(hospital, kit)
    assert not hospital.authority.exists()


@pytest.mark.parametrize("content", ["", "[]", "hospital: north", "hospital: x\naddress: nowhere", "a: b: c"])
def test_what_is_no_kit_is_refused_in_words(kit, content):
    (kit / "kit.yaml").write_text(content)
    with pytest.raises(DeployError, match=r"kit\.yaml"):
        read_kit(kit)


def test_a_kit_without_authority_is_not_whole(hospital, kit):
    (kit / "ca.crt").unlink()
    with pytest.raises(DeployError, match=r"lacks ca\.crt"):
        join(hospital, kit)


def test_where_no_kit_came_yet_the_hospital_hears_what_to_do(hospital):
    with pytest.raises(DeployError, match="site init DIR --kit KIT"):
        hospital.kit()


def test_a_key_of_another_kind_is_refused(hospital):
    other = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    hospital.key.write_bytes(other)
    with pytest.raises(DeployError, match="no EC key"):
        read_key(hospital.key)
    hospital.key.write_bytes(b"torn")
    with pytest.raises(DeployError, match="no OpenSSH private key"):
        read_key(hospital.key)


def test_a_folder_of_which_the_key_is_gone_is_no_hospital(hospital):
    shutil.rmtree(hospital.folder / "keys")
    with pytest.raises(DeployError, match="fedvox site init"):
        open_hospital(hospital.folder)
