"""Sources, the canonical archive, the cache, and what a dataset is."""

import gzip
import hashlib
import io
import re
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bach.corpus import EXPECTED_COUNTS, JSB_FINGERPRINT, JSB_SHA256, Chorale, Dataset, cache_folder, fetch_jsb, load
from bach.corpus.archive import MAX_ARCHIVE_BYTES, archive_members, check_archive
from bach.errors import DataError, OutputError
from bach.notes import MAX_PITCH, MIN_PITCH, SPLITS, Split


def tar(*members: tarfile.TarInfo, contents: bytes = b"note0\n", compress: bool = True) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz" if compress else "w") as archive:
        for member in members:
            if member.isreg():
                member.size = len(contents)
            archive.addfile(member, io.BytesIO(contents) if member.isreg() else None)
    return data.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def chorale(identifier: str, pitch: int = 60, steps: int = 4) -> Chorale:
    return Chorale(id=identifier, pitches=np.full((steps, 4), pitch))


def three_splits(pitch: int = 60) -> Any:
    return {split: [chorale(f"{split}/0", pitch)] for split in SPLITS}


# The canonical archive


def test_the_canonical_archive_is_jsb_with_its_counts(jsb_archive):
    dataset = load(jsb_archive)
    assert (dataset.name, dataset.fingerprint) == ("jsb", JSB_FINGERPRINT)
    assert {split: len(chorales) for split, chorales in dataset.splits.items()} == EXPECTED_COUNTS["jsb"]
    assert sum(len(piece.pitches) for piece in dataset.chorales()) == 92_536


def test_a_canonical_chorale_has_its_number_its_title_and_its_notes(jsb_archive):
    first = load(jsb_archive).splits["train"][0]
    assert (first.id, first.title) == ("train/000", "bwv360")
    assert len(first.pitches) == 192


def test_the_canonical_chorales_are_jsb_as_an_unpacked_folder_too(jsb_archive, tmp_path):
    with tarfile.open(jsb_archive) as archive:
        archive.extractall(tmp_path / "my chorales", filter="data")
    given_above, given_itself = load(tmp_path / "my chorales"), load(tmp_path / "my chorales" / "jsb_chorales")
    for dataset in (given_above, given_itself):
        assert (dataset.name, dataset.fingerprint) == ("jsb", JSB_FINGERPRINT)
        assert [c.id for c in dataset.chorales()] == [c.id for c in load(jsb_archive).chorales()]


def test_one_changed_cell_makes_it_another_dataset(jsb_archive, tmp_path):
    with tarfile.open(jsb_archive) as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / "jsb_chorales").rename(tmp_path / "jsb")
    changed = tmp_path / "jsb" / "test" / "chorale_305.csv"
    lines = changed.read_text().splitlines()
    lines[1] = ",".join(["60", *lines[1].split(",")[1:]])
    changed.write_text("\n".join(lines))
    dataset = load(tmp_path / "jsb")
    assert dataset.name == "jsb-other"  # its folder is called jsb, but it is not
    assert dataset.fingerprint != JSB_FINGERPRINT
    assert dataset.chorales()[0].title == ""


# Archives that are refused


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.99])
def test_a_truncated_archive_is_refused_with_its_hash(jsb_archive, tmp_path, keep):
    data = jsb_archive.read_bytes()
    cut = tmp_path / "cut.tgz"
    cut.write_bytes(data[: int(keep * len(data))])
    found = hashlib.sha256(cut.read_bytes()).hexdigest()
    with pytest.raises(DataError, match=f"(?s)cut.tgz.*truncated.*{found}.*{JSB_SHA256}"):
        load(cut)


def test_an_archive_with_another_hash_is_refused_even_if_it_is_sound(tmp_path):
    path = tmp_path / "other.tgz"
    path.write_bytes(tar(member("train/a.csv")))
    with pytest.raises(DataError, match=rf"other.tgz: not the canonical archive.*another file.*{JSB_SHA256}.*folder"):
        load(path)


@pytest.mark.parametrize(
    ("unsafe", "reason"),
    [
        (member("../train/a.csv"), "would leave the folder"),
        (member("jsb/../../a.csv"), "would leave the folder"),
        (member("/etc/a.csv"), "would leave the folder"),
        (member("..\\a.csv"), "would leave the folder"),
        (member("C:/a.csv"), "would leave the folder"),
        (member("../up", tarfile.DIRTYPE), "would leave the folder"),
        (member("train/a.csv", tarfile.SYMTYPE, "/etc/passwd"), "link or a device"),
        (member("train/a.csv", tarfile.LNKTYPE, "train/b.csv"), "link or a device"),
        (member("train/a.csv", tarfile.CHRTYPE), "link or a device"),
        (member("train/a.csv", tarfile.FIFOTYPE), "link or a device"),
    ],
    ids=lambda value: value.name if isinstance(value, tarfile.TarInfo) else "",
)
@pytest.mark.parametrize("compress", [True, False])
def test_an_archive_with_an_unsafe_member_is_refused_and_nothing_is_unpacked(tmp_path, unsafe, reason, compress):
    path = tmp_path / "given" / "bad.tgz"
    path.parent.mkdir()
    path.write_bytes(tar(member("train/good.csv"), unsafe, compress=compress))
    with pytest.raises(DataError, match=rf"bad.tgz.*{re.escape(repr(unsafe.name))}.*{reason}"):
        load(path, cache=tmp_path / "cache")
    with pytest.raises(DataError, match=reason):
        fetch_jsb(path, cache=tmp_path / "cache")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


def test_an_archive_that_unpacks_to_very_much_is_refused():
    bomb = gzip.compress(bytes(MAX_ARCHIVE_BYTES + 10))
    assert len(bomb) < 100_000
    with pytest.raises(DataError, match="unpacks to more than"):
        list(archive_members(bomb, where="bomb.tgz"))


@given(st.binary(max_size=300))
def test_no_bytes_but_the_canonical_ones_are_taken_for_the_archive(data):
    for given_bytes in (data, b"\x1f\x8b" + data):
        with pytest.raises(DataError, match=hashlib.sha256(given_bytes).hexdigest()):
            check_archive(given_bytes, where="x")


def test_members_of_a_good_archive_are_read_in_memory():
    data = tar(member("train", tarfile.DIRTYPE), member("train/a.csv"), contents=b"hello")
    assert list(archive_members(data, where="x")) == [("train/a.csv", b"hello")]


# Fetching


@pytest.fixture
def server(tmp_path):
    """A web server whose files lie in the folder `web`."""
    (tmp_path / "web").mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "web")) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_a_download_is_checked_counted_and_kept(jsb_archive, server, tmp_path):
    (tmp_path / "web" / "jsb.tgz").write_bytes(jsb_archive.read_bytes())
    seen = []
    path = fetch_jsb(cache=tmp_path / "cache", url=f"{server}/jsb.tgz", progress=lambda *told: seen.append(told))
    assert path.read_bytes() == jsb_archive.read_bytes()
    size = len(jsb_archive.read_bytes())
    assert seen[-1] == ("download", size, size)
    assert [done for _, done, _ in seen] == sorted({done for _, done, _ in seen})
    assert load("jsb", cache=tmp_path / "cache").name == "jsb"


def test_a_download_of_something_else_is_refused_and_not_kept(server, tmp_path):
    (tmp_path / "web" / "jsb.tgz").write_text("<html>please log in</html>")
    with pytest.raises(DataError, match=f"jsb.tgz: not the canonical archive.*{JSB_SHA256}"):
        fetch_jsb(cache=tmp_path / "cache", url=f"{server}/jsb.tgz")
    assert not (tmp_path / "cache").exists()


def test_an_endless_download_is_broken_off(server, tmp_path):
    (tmp_path / "web" / "jsb.tgz").write_bytes(bytes(MAX_ARCHIVE_BYTES + 1))
    with pytest.raises(DataError, match="more than"):
        fetch_jsb(cache=tmp_path / "cache", url=f"{server}/jsb.tgz")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/jsb.tgz", "http://name.invalid/jsb.tgz", "not an address"])
def test_without_network_one_sentence_says_what_to_do(tmp_path, url):
    with pytest.raises(DataError, match=r"cannot download .*--data PATH.*bach data fetch jsb --from PATH") as caught:
        fetch_jsb(cache=tmp_path / "cache", url=url)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache").exists()


def test_a_missing_page_is_told(server, tmp_path):
    with pytest.raises(DataError, match=r"(?i)cannot download .*not found"):
        fetch_jsb(cache=tmp_path / "cache", url=f"{server}/nothing.tgz")


def test_a_file_given_by_hand_serves_without_network(jsb_archive, tmp_path):
    fetch_jsb(jsb_archive, cache=tmp_path)
    assert fetch_jsb(cache=tmp_path, url="http://name.invalid/").read_bytes() == jsb_archive.read_bytes()
    assert load("jsb", cache=tmp_path).name == "jsb"


def test_a_damaged_archive_in_the_cache_is_fetched_again(jsb_archive, server, tmp_path, caplog):
    path = fetch_jsb(jsb_archive, cache=tmp_path / "cache")
    path.write_bytes(path.read_bytes()[:5000])
    (tmp_path / "web" / "jsb.tgz").write_bytes(jsb_archive.read_bytes())
    fetch_jsb(cache=tmp_path / "cache", url=f"{server}/jsb.tgz")
    assert path.read_bytes() == jsb_archive.read_bytes()
    assert "fetched again" in caplog.text


def test_a_file_to_fetch_from_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.tgz: cannot read the archive \(No such file"):
        fetch_jsb(tmp_path / "nowhere.tgz", cache=tmp_path)


def test_a_cache_that_cannot_be_written_is_told(jsb_archive, tmp_path):
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(OutputError, match="cache"):
        fetch_jsb(jsb_archive, cache=tmp_path / "cache")


def test_the_cache_is_the_argument_then_the_variable_then_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("BACH_CACHE", str(tmp_path / "variable"))
    assert cache_folder(tmp_path / "argument") == tmp_path / "argument"
    assert cache_folder() == tmp_path / "variable"
    monkeypatch.delenv("BACH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    assert cache_folder().name == "bach"


# Sources


@pytest.mark.parametrize("source", ["music2l", "jbs", "no such folder/x"])
def test_an_unknown_source_is_refused_with_the_known_ones(source):
    with pytest.raises(DataError, match=r"neither a source nor an existing path.*(music21|jsb)"):
        load(source)


def test_a_single_file_is_not_a_corpus(tmp_path):
    (tmp_path / "a.csv").write_text("note0,note1,note2,note3\n60,60,60,60\n")
    with pytest.raises(DataError, match=r"a.csv: a single file; expected a folder"):
        load(tmp_path / "a.csv")


def test_an_impossible_path_is_refused():
    with pytest.raises(DataError, match="neither a source nor an existing path"):
        load("a\0b")


# Datasets


def test_a_split_without_chorales_is_refused():
    with pytest.raises(DataError, match="mine: split 'valid' has no chorales"):
        Dataset.of("mine", {"train": [chorale("train/0")], "test": [chorale("test/0")]})


def test_two_chorales_of_one_name_are_refused():
    with pytest.raises(DataError, match="two chorales are called 'train/0'"):
        Dataset.of("mine", three_splits() | {"train": [chorale("train/0"), chorale("train/0", 70)]})


def test_the_fingerprint_tells_pitches_lengths_order_and_splits_but_not_names():
    plain = Dataset.of("a", three_splits())
    renamed: dict[Split, list[Chorale]] = {split: [chorale(f"{split}/other")] for split in SPLITS}
    assert Dataset.of("b", renamed).fingerprint == plain.fingerprint
    low, high = chorale("train/1", 50), chorale("train/2", 70)
    others = [
        three_splits(61),
        three_splits() | {"train": [chorale("train/0", steps=5)]},
        three_splits() | {"train": [chorale("train/0", steps=2), chorale("train/1", steps=2)]},
        three_splits() | {"train": [low, high]},
        three_splits() | {"train": [high, low]},
        three_splits() | {"train": [low], "valid": [high]},
        three_splits() | {"train": [high], "valid": [low]},
    ]
    prints = {Dataset.of("a", splits).fingerprint for splits in others}
    assert len(prints | {plain.fingerprint}) == len(others) + 1


@given(st.lists(st.tuples(*[st.integers(MIN_PITCH, MAX_PITCH) | st.just(0)] * 4), min_size=1, max_size=8))
def test_a_chorale_keeps_the_pitches_it_is_given(rows):
    for dtype in (np.int64, np.uint8, np.float64):
        given_pitches: Any = np.array(rows, dtype)
        kept = Chorale(id="x", pitches=given_pitches).pitches
        assert kept.dtype == np.int16
        assert kept.tolist() == [list(row) for row in rows]


def test_the_pitches_of_a_chorale_cannot_be_changed_from_inside_or_outside():
    mine = np.full((4, 4), 60, np.int16)
    kept = Chorale(id="x", pitches=mine).pitches
    mine[0, 0] = 70
    assert kept[0, 0] == 60
    with pytest.raises(ValueError, match="read-only"):
        kept[0, 0] = 70


@pytest.mark.parametrize(
    ("cell", "told"), [(35, "35"), (82, "82"), (-1, "-1"), (60.5, "60.5"), (np.nan, "nan"), (np.inf, "inf")]
)
def test_a_cell_that_is_no_pitch_is_refused_with_piece_step_and_voice(cell, told):
    pitches: Any = np.full((4, 4), 60.0)
    pitches[2, 1] = cell
    with pytest.raises(DataError, match=f"train/7, step 2, alto: got {told}, expected a MIDI pitch 36..81"):
        Chorale(id="train/7", pitches=pitches)


@pytest.mark.parametrize("shape", [(4, 3), (4, 5), (16,), (0, 4), (2, 2, 4)])
def test_an_array_of_another_shape_is_refused(shape):
    with pytest.raises(DataError, match=r"x: (got an array of shape|no steps)"):
        Chorale(id="x", pitches=np.full(shape, 60))


def test_cells_that_are_no_numbers_are_refused():
    with pytest.raises(DataError, match="expected whole numbers"):
        Chorale(id="x", pitches=np.array([["C4"] * 4]))
