"""What of a folder travels to a cluster: what is tracked, nothing secret, nothing large."""

import os
import subprocess
import zipfile

import pytest

from search import parcel
from search.errors import SweepError
from search.parcel import gather, pack

KEY = "-----BEGIN " + "OPENSSH PRIVATE KEY-----\n"  # in two, so that this file itself may travel


def git(folder, *words):
    identity = ["-c", "user.name=x", "-c", "user.email=x@localhost"]
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


def put(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.fixture
def tree(tmp_path):
    folder = tmp_path / "tree"
    folder.mkdir()
    put(folder, {"task.py": "x = 1", "sub/more.py": "y = 2", ".gitignore": "out\n", "out": "big", "loose.py": "z = 3"})
    git(folder, "init", "-q")
    git(folder, "add", "task.py", "sub", ".gitignore")
    return folder


def test_what_git_tracks_travels_as_it_lies_there(tree):
    (tree / "task.py").write_text("changed since")
    (tree / "sub" / "more.py").unlink()
    found = gather(tree)
    assert set(found.sizes) == {"task.py", ".gitignore"}
    assert found.sizes["task.py"] == len("changed since")
    assert found.untracked == ("loose.py",)


def test_a_folder_inside_a_repository_is_named_from_itself(tree):
    assert set(gather(tree / "sub").sizes) == {"more.py"}


def test_what_is_asked_for_travels_untracked_too(tree):
    found = gather(tree, asked_for=["loose.py"])
    assert "loose.py" in found.sizes
    assert found.untracked == ()


def test_without_git_hidden_files_caches_environments_and_results_stay_behind(tmp_path):
    names = ["a.py", "b/c.py", ".cache/x", "runs/old/y", "env/pyvenv.cfg", "env/z", "b/__pycache__/w"]
    put(tmp_path, dict.fromkeys(names, ""))
    assert set(gather(tmp_path).sizes) == {"a.py", "b/c.py"}


@pytest.mark.parametrize(
    "name",
    [".env", ".env.local", "prod.env", "server.pem", "my.key", "id_ed25519", "id_rsa.old", "auth_token", "TOKEN",
     "github_token", "credentials", "Credentials.json", "secrets.toml", ".netrc", ".aws/config", "a/.ssh/known_hosts",
     "my-service-account.json", "kubeconfig.yaml"],
)  # fmt: skip
def test_what_is_called_like_a_secret_stays_behind(tree, name):
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / name).write_text("hush")
    git(tree, "add", "-f", name)
    found = gather(tree)
    assert name not in found.sizes
    assert found.left_out == {name: "its name is that of a secret"}
    with pytest.raises(SweepError, match="has to travel to the cluster, but its name is that of a secret"):
        gather(tree, asked_for=[name])


@pytest.mark.parametrize("name", ["tokens.py", "environment.py", "keys.py", "id_map.py", "tokenizer.json", "key.md"])
def test_what_only_sounds_like_one_travels(tree, name):
    put(tree, {name: "words"})
    git(tree, "add", name)
    assert name in gather(tree).sizes


def test_what_holds_a_key_or_the_token_stays_behind(tree):
    token = "5" * 64
    amazons = "KEY = 'AKI" + "A" + "Z" * 16 + "'"
    put(tree, {"notes.md": f"my key:\n{KEY}abc", "cloud.py": amazons, "log.md": f"? {token}"})
    git(tree, "add", "notes.md", "cloud.py", "log.md")
    assert gather(tree, secrets=[token.encode(), b""]).left_out == {
        "notes.md": "it holds a key",
        "cloud.py": "it holds a key",
        "log.md": "it holds the cluster's token",
    }


def test_a_link_that_leads_out_stays_behind_and_one_within_travels(tree, tmp_path):
    (tmp_path / "private").write_text("hush")
    (tree / "out.py").symlink_to(tmp_path / "private")
    (tree / "in.py").symlink_to("task.py")
    (tree / "folder").symlink_to("sub")
    git(tree, "add", "out.py", "in.py", "folder")
    found = gather(tree)
    assert "in.py" in found.sizes
    assert set(found.left_out) == {"out.py", "folder"}


@pytest.mark.parametrize("target", [".env", "certs/server.pem", "prod.cfg", "id_rsa"])
def test_a_link_to_what_stays_behind_stays_too(tree, target):
    put(tree, {target: "hush", ".gitignore": "out\nprod.cfg\n.env\n"})
    (tree / "config.txt").symlink_to(target)
    (tree / "again.txt").symlink_to("config.txt")
    git(tree, "add", "config.txt", "again.txt")
    if target == "id_rsa":
        git(tree, "add", "-f", target)  # tracked, and a secret by its name alone
    found = gather(tree)
    assert {"config.txt", "again.txt"} <= set(found.left_out)
    assert set(found.sizes) == {"task.py", "sub/more.py", ".gitignore"}


def test_a_link_that_is_asked_for_may_lead_to_what_git_does_not_track(tree):
    (tree / "mine.py").symlink_to("loose.py")
    assert "mine.py" in gather(tree, asked_for=["mine.py"]).sizes
    (tree / ".env").write_text("hush")
    (tree / "mine.txt").symlink_to(".env")
    with pytest.raises(SweepError, match=r"but it is a link to \.env, whose name is that of a secret"):
        gather(tree, asked_for=["mine.txt"])


def test_without_git_links_obey_the_same_rules(tmp_path):
    put(tmp_path, {"a.py": "", ".hidden": "hush", "prod.env": "hush"})
    for name, target in (("b.py", "a.py"), ("c.txt", ".hidden"), ("d.txt", "prod.env")):
        (tmp_path / name).symlink_to(target)
    found = gather(tmp_path)
    assert set(found.sizes) == {"a.py", "b.py"}
    assert set(found.left_out) == {"c.txt", "d.txt", "prod.env"}


def test_where_git_tracks_nothing_yet_what_it_ignores_stays_behind(tmp_path):
    put(tmp_path, {".gitignore": "prod.cfg\n", "prod.cfg": "hush", "a.py": "", "runs/old/y": "", "inner/f.py": ""})
    git(tmp_path, "init", "-q")
    git(tmp_path / "inner", "init", "-q")
    assert set(gather(tmp_path).sizes) == {"a.py"}
    assert set(gather(tmp_path, asked_for=["prod.cfg"]).sizes) == {"a.py", "prod.cfg"}


def test_a_repository_that_git_cannot_read_is_refused(tree, monkeypatch):
    (tree / ".git" / "index").write_bytes(b"broken")
    with pytest.raises(SweepError, match=r"git cannot say what belongs to .*tree: .*index"):
        gather(tree)
    monkeypatch.setenv("PATH", str(tree / "sub"))
    with pytest.raises(SweepError, match=r"git cannot say what belongs to .*sub: .*No such file"):
        gather(tree / "sub")


def test_what_is_asked_for_has_to_be_there(tree):
    with pytest.raises(SweepError, match=r"nobody.py has to travel to the cluster, but it is not there"):
        gather(tree, asked_for=["nobody.py"])


def test_what_is_too_large_is_refused_with_the_largest(tree, monkeypatch):
    monkeypatch.setattr(parcel, "LIMIT_BYTES", 1_000_000)
    (tree / "heavy.bin").write_bytes(b"x" * 1_200_000)
    git(tree, "add", "heavy.bin")
    with pytest.raises(SweepError, match=r"1 MB that would travel .* at most 1 MB; the largest: heavy.bin 1\.2 MB, "):
        gather(tree)


def test_the_same_files_make_the_same_archive(tree, tmp_path):
    (tree / "task.py").chmod(0o755)
    found = gather(tree)
    pack(found, tmp_path / "one.zip")
    os.utime(tree / "task.py", (1, 1))
    pack(found, tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert archive.read("sub/more.py") == b"y = 2"
        assert archive.getinfo("task.py").external_attr >> 16 & 0o777 == 0o755
