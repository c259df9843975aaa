"""Storage: the same promises on a disk and in an object store (a real S3 server in this process)."""

import errno
import multiprocessing
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from results.errors import StorageError
from results.storage import Storage

ODD = ["plain", "with space", "a#b", "100%", "%20", "ünïcode", "q?x=1", "a&b=c", "'", "-o"]


@pytest.fixture(scope="module")
def server():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(server, monkeypatch) -> str:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    boto3.client("s3", endpoint_url=f"http://{server}", region_name="us-east-1").create_bucket(Bucket="sweeps")
    return f"s3://sweeps/%s?endpoint_override={server}&scheme=http&region=us-east-1"


@pytest.fixture(params=["local", "s3"])
def storage(request, tmp_path) -> Storage:
    if request.param == "local":
        return Storage(tmp_path / "odd # %41 nämë" / "runs")
    # Each test has a folder of its own in the bucket that they share.
    return Storage(request.getfixturevalue("bucket") % f"odd # %41 nämë/{tmp_path.name}")


def test_what_is_written_is_read(storage):
    storage.write("a/b.bin", b"one")
    storage.write("a/b.bin", b"two")
    assert storage.read("a/b.bin") == b"two"
    assert storage.exists("a/b.bin")
    assert storage.exists("a")
    assert not storage.exists("a/c.bin")


def test_pyarrow_reaches_the_same_folder(storage):
    storage.write("a/b.bin", b"one")
    files, path = storage.for_arrow()
    assert files.open_input_file(f"{path}/a/b.bin").read() == b"one"


def test_what_is_not_there_is_missing(storage):
    for missing in (lambda: storage.read("no/such"), lambda: storage.open("no"), lambda: storage.rename("no", "new")):
        with pytest.raises(FileNotFoundError):
            missing()
    with pytest.raises(FileNotFoundError, match=r"no\.bin"):
        storage.download("no.bin", Path("never written"))
    assert not Path("never written").exists()
    assert storage.names("nowhere") == []
    assert storage.size("nowhere") == 0
    storage.remove("nowhere")


def test_a_small_file_is_one_request_to_an_object_store_and_a_large_one_comes_whole(bucket, server):
    storage = Storage(bucket % "requests")
    large = bytes(range(256)) * 65_536
    storage.write_all({"small": b"x", "large": large, "empty": b""})
    assert [storage.read(name) for name in ("small", "large", "empty")] == [b"x", large, b""]
    client = boto3.client("s3", endpoint_url=f"http://{server}", region_name="us-east-1")
    # What was sent in parts has their number in its tag.
    tags = {name: client.head_object(Bucket="sweeps", Key=f"requests/{name}")["ETag"] for name in ("small", "large")}
    assert "-" not in tags["small"]
    assert "-" in tags["large"]


@pytest.mark.parametrize("name", ODD)
def test_odd_names_are_taken_as_they_are(storage, name):
    below = storage.child(name, "deeper")
    below.write(f"{name}/file", b"x")
    assert storage.names() == [name]
    assert storage.names(f"{name}/deeper") == [name]
    again = Storage(below.uri)
    assert again == below
    assert again.read(f"{name}/file") == b"x"


def test_names_sizes_and_removal(storage):
    storage.write_all({"f/2": b"22", "f/1": b"1", "f/in/deep": b"333", "f/.hidden": b""})
    assert storage.names("f") == ["1", "2", "in"]
    assert storage.size("f") == 6
    assert storage.size("f/2") == 2
    storage.remove("f/1")
    assert storage.names("f") == ["2", "in"]
    storage.rename("f/2", "f/3")
    assert storage.names("f") == ["3", "in"]
    storage.remove("f")
    assert not storage.exists("f/in/deep")


def test_files_go_up_and_come_down_whole(storage, tmp_path):
    data = os.urandom(6_000_000)  # more than one part of an S3 upload
    (tmp_path / "up").write_bytes(data)
    storage.upload(tmp_path / "up", "models/m.bin")
    storage.download("models/m.bin", tmp_path / "new folder" / "down")
    assert (tmp_path / "new folder" / "down").read_bytes() == data
    with pytest.raises(FileNotFoundError):
        storage.upload(tmp_path / "nothing", "models/n.bin")
    assert storage.names("models") == ["m.bin"]


def test_a_storage_travels_to_other_processes(storage):
    storage.write("x", b"1")
    with multiprocessing.get_context("spawn").Pool(1) as other:
        assert other.apply(storage.read, ("x",)) == b"1"


@pytest.mark.parametrize("path", ["../out", "a/../../out", "/etc/passwd", "a\0b"])
def test_a_path_that_leads_out_is_refused(storage, path):
    for act in (storage.read, storage.remove, storage.child, storage.names):
        with pytest.raises(StorageError, match="leads out of"):
            act(path)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(max_size=200),
    name=st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1),
)
def test_any_name_and_any_bytes_come_back(tmp_path, data, name):
    if name in {".", ".."} or len(name.encode()) > 255:
        return
    storage = Storage(tmp_path / "any")
    storage.write(name, data)
    assert storage.read(name) == data
    storage.remove(name)


@pytest.mark.parametrize("uri", ["", "s3://", "s3:///"])
def test_an_address_without_a_place_is_refused(uri):
    with pytest.raises(StorageError, match="expected"):
        Storage(uri)


def test_a_file_address_is_a_folder(tmp_path):
    Storage(f"file://{tmp_path}/a%20b").write("x", b"1")
    assert (tmp_path / "a b" / "x").read_bytes() == b"1"


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AK1A:SEKRET@bucket/a",
        "s3://AK1A@bucket",
        "s3://AK1A:SEK/RET@bucket/a?region=us-east-1",
        "s3://AK1A:SEK?RET@bucket/a",
        "gs://me:SEKRET@bucket/a",
        "https://AK1A:SEKRET@bucket/a",
        "s3://bucket/a?access_key=AK1A&secret_key=SEKRET",
        "s3://bucket/a?region=us-east-1&Session%5FToken=SEKRET",
        "abfs://bucket/a?client_secret=SEKRET",
        "s3://bucket/a?endpoint_override=http://AK1A:SEKRET%40127.0.0.1:9000",
    ],
)
def test_an_address_with_a_key_is_refused_without_showing_it(uri):
    with pytest.raises(StorageError, match=r"(AWS_SECRET_ACCESS_KEY|GOOGLE_APPLICATION_CREDENTIALS)") as caught:
        Storage(uri)
    assert not {"AK1A", "SEK", "RET"} & set(re.findall("AK1A|SEK|RET", str(caught.value).replace("SECRET", "")))


@pytest.mark.parametrize("uri", ["s3://bucket/me@home:1/a", "s3://bucket/keys?scheme=http", "gs://bucket/token=x"])
def test_what_only_looks_like_a_key_is_taken(uri):
    assert Storage(uri).uri == uri


def test_an_unknown_service_is_named():
    with pytest.raises(StorageError, match="carrier-pigeon://loft"):
        Storage("carrier-pigeon://loft/a").names()


def test_a_bucket_that_is_not_there_is_named(bucket):
    storage = Storage((bucket % "x").replace("sweeps", "nobodys-bucket"))
    with pytest.raises(StorageError, match=r"cannot write s3://nobodys-bucket/x/y: .*check the address"):
        storage.write("y", b"")


def test_a_store_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    options = "endpoint_override=127.0.0.1:9&scheme=http&region=us-east-1&connect_timeout=1"
    with pytest.raises(StorageError, match=r"cannot read s3://sweeps/a/x: .*the network"):
        Storage(f"s3://sweeps/a?{options}").read("x")


def test_a_file_where_a_folder_should_be_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"cannot write .*file/x: .*a file stands where a folder was expected"):
        Storage(tmp_path / "file").write("x", b"")


def test_a_name_that_is_too_long_is_refused(tmp_path):
    with pytest.raises(StorageError, match="name is too long"):
        Storage(tmp_path).write("x" * 300, b"")


WITHOUT_RIGHTS = """
import os, sys
from results.errors import StorageError
from results.storage import Storage
if os.getuid() == 0:  # who may write everywhere
    os.setuid(65534)
try:
    Storage(sys.argv[1]).write("x", b"1")
except StorageError as error:
    print(error)
"""


def test_a_folder_without_permission_is_named(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o755)
    for parent in [tmp_path, *tmp_path.parents][:4]:
        parent.chmod(parent.stat().st_mode | 0o055)
    folder.chmod(0o555)
    done = subprocess.run([sys.executable, "-c", WITHOUT_RIGHTS, folder], capture_output=True, text=True)
    assert "permission denied; this user may not do that there" in done.stdout, done.stderr
    assert list(folder.iterdir()) == []


def test_a_disk_without_room_is_named_and_nothing_is_left(tmp_path):
    """A limit on the size of files stands for the full disk: writing fails in the middle all the same."""
    storage = Storage(tmp_path)
    storage.write("kept", b"old")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old[1]))
    try:
        with pytest.raises(
            StorageError, match=r"cannot write .*: file too large; .* or choose another storage"
        ) as caught:
            storage.write_all({"other": b"fits", "kept": bytes(5000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EFBIG
    assert storage.read("kept") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_unfinished_files_are_hidden_and_can_be_removed(storage):
    storage.write("folder/.tmp-left", b"half")
    storage.write("folder/whole", b"whole")
    assert storage.names("folder") == ["whole"]
    storage.remove_temporaries("folder")
    assert not storage.exists("folder/.tmp-left")
    assert storage.read("folder/whole") == b"whole"
