"""Machines for a cluster out of one Linux machine: laptop, head, two workers and a storage, on a network of their own.

Each is a set of namespaces (processes, mounts, network, host name, System V objects) with SSH's daemon as its first
process, on a root folder that is this machine's, read-only; what a machine may write lies in the lab's temporary folder
and is its disk, which stays when it is powered off. They hang on a bridge in a network namespace that has no way out.

All of it hangs on one process: if that ends, or the process that made the lab does, even by SIGKILL, the kernel ends
all the others and takes the network away. What then stays is the folder, which the next lab removes.
"""

import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from search.lock import process_start

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "search-lab-"
NETWORK = "10.77.0"
ADDRESSES = {"laptop": 10, "head": 11, "w1": 12, "w2": 13, "store": 14}
HOME = pwd.getpwuid(0).pw_dir
WATCHED = "/tmp/watched"
"""The observer's folder, on all machines."""
STORE_PORT = 9000
BUCKET = "sweeps"
KEYS = {
    "AWS_ACCESS_KEY_ID": "lab",
    "AWS_SECRET_ACCESS_KEY": "only-in-the-lab",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""What the storage's clients want to have; the storage looks at none of it."""
CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t which, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, which, now);
    Dl_info asking;
    if (failed || which != CLOCK_REALTIME || !dladdr(__builtin_return_address(0), &asking)) return failed;
    const char *name = strrchr(asking.dli_fname, '/');
    name = name ? name + 1 : asking.dli_fname;
    if (!strncmp(name, "python", 6) || !strncmp(name, "libpython", 9)) now->tv_sec += atoi(getenv("CLOCK_AHEAD_S"));
    return 0;
}
"""
"""Shifts the wall clock that Python itself tells. Whoever waits until a time, as Ray's own code does, is told the true
one: the kernel that wakes it up has no other."""
NEEDED = {
    "ip": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "pivot_root": "util-linux",
    "setpriv": "util-linux",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "rsync": "rsync",
    "tmux": "tmux",
    "cc": "gcc and libc6-dev",
}
"""Programs, and the packages of Debian that have them."""

_BOOT = r"""
set -eu
disk=$1 name=$2; shift 2
read -r pid _ < /proc/self/stat             # /proc is still that of the machine below: its number there
root=$disk/root; mkdir -p "$root"
mount --rbind / "$root"; mount -o remount,bind,ro "$root"
mount --bind "$disk/tmp" "$root/tmp"; mount --bind "$disk/tmp" "$root/var/tmp"; mount --bind "$disk/home" "$root$HOME"
mount -t tmpfs tmpfs "$root/run"; mkdir "$root/run/sshd"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
mount -t proc proc "$root/proc"
# No connection that goes out, nor a port that somebody draws, takes one that Ray wants to have when it starts.
{ echo 44217,44227,52365 > "$root/proc/sys/net/ipv4/ip_local_reserved_ports"; } 2>/dev/null || true
[ ! -d "$root$LAB_HIDE" ] || mount -t tmpfs -o size=1m tmpfs "$root$LAB_HIDE"
for place in $LAB_SHOW; do
    [ "$root$place" -ef "$place" ] || { mkdir -p "$root$place"; mount --rbind "$place" "$root$place"; }
done
mkdir -p "$root/tmp/watched"; mount --bind "$LAB_WATCHED" "$root/tmp/watched"
mount --bind "$disk/hosts" "$root/etc/hosts"
hostname "$name"
echo "$pid" > "$disk/pid.new"; mv "$disk/pid.new" "$disk/pid"
cd "$root"; pivot_root . .; umount -l .; cd /
exec env -i HOME="$HOME" LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
"""

_SWITCH = r"""
read -r pid _ < /proc/self/stat
ip link add switch type bridge; ip link set switch up
echo "$pid" > "$1"; exec sleep infinity
"""


def missing():
    """Why there can be no lab here, in words; "" if there can."""
    if sys.platform != "linux":
        return "it needs Linux"
    if os.geteuid() != 0:
        return "it needs root, to make namespaces"
    absent = sorted({package for program, package in NEEDED.items() if not _which(program)})
    if absent:
        return f"it needs the packages {', '.join(absent)}"
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--propagation", "private", "bash", "-c",
         "ip link add lab type bridge && mount -t tmpfs tmpfs /mnt"],
        capture_output=True, text=True,
    )  # fmt: skip
    return f"this machine gives no namespaces: {tried.stderr.strip()}" if tried.returncode else ""


def _which(program):
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


_LEASH = ("setpriv", "--pdeathsig", "KILL")
"""What is started with this before it ends when its parent does."""


class Machine:
    """One of them."""

    def __init__(self, lab, name):
        self.lab, self.name = lab, name
        self.address = f"{NETWORK}.{ADDRESSES[name]}"
        self.disk = lab.folder / name
        self.home = self.disk / "home"
        self.pid = 0
        self.is_connected = False
        self._process = None
        self._prepare()

    def _prepare(self):
        (self.home / ".ssh").mkdir(parents=True)
        (self.home / ".ssh").chmod(0o700)
        (self.disk / "tmp").mkdir()
        (self.disk / "tmp").chmod(0o1777)
        if self.name == "laptop":
            shutil.copy(self.lab.key, self.home / ".ssh" / "id_ed25519")
        shutil.copy(self.lab.key.with_suffix(".pub"), self.home / ".ssh" / "authorized_keys")
        (self.home / "chorale-env").symlink_to(sys.prefix)
        (self.home / ".bashrc").touch()
        names = "".join(f"{NETWORK}.{number} {name}\n" for name, number in ADDRESSES.items())
        (self.disk / "hosts").write_text("127.0.0.1 localhost\n" + names)

    @property
    def is_on(self):
        return self.pid != 0

    def boot(self, *, clock_s=0):
        """Switches it on.

        Args:
            clock_s: its clock is so far ahead, for all Python that is started by SSH.
        """
        if self.name == "store":
            first = [f"{sys.prefix}/bin/moto_server", "-H", "0.0.0.0", "-p", str(STORE_PORT)]
        else:
            config = self.disk / "tmp" / ".sshd_config"
            lines = [*SSHD.strip().splitlines()]
            if clock_s:
                library = self.disk / "tmp" / ".clock.so"
                words = ("cc", "-shared", "-fPIC", "-x", "c", "-o", str(library), "-", "-ldl")
                subprocess.run(words, input=CLOCK, text=True, check=True)
                lines.append(f"SetEnv LD_PRELOAD=/tmp/{library.name} CLOCK_AHEAD_S={clock_s}")
            config.write_text("\n".join([*lines, ""]))
            shutil.copy(self.lab.host_key, self.disk / "tmp" / ".host_key")
            first = [_which("sshd"), "-D", "-e", "-f", "/tmp/.sshd_config", "-h", "/tmp/.host_key"]
        (self.disk / "pid").unlink(missing_ok=True)
        command = [
            *("nsenter", "--target", str(self.lab.pid), "--pid"),
            *("unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child"),
            *("--propagation", "private", "bash", "-c", _BOOT, "boot", str(self.disk), self.name, *first),
        ]
        shown = {
            "HOME": HOME,
            "LAB_HIDE": str(ROOT),
            "LAB_SHOW": f"{sys.prefix} {sys.base_prefix}",
            "LAB_WATCHED": str(self.lab.watched),
        }
        with (self.disk / "console.log").open("a") as log:
            self._process = subprocess.Popen(
                command, env=os.environ | shown, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        until = time.monotonic() + 20
        while not (self.disk / "pid").exists():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{self.name} does not start: {(self.disk / 'console.log').read_text()[-2000:]}")
            time.sleep(0.02)
        self.pid = int((self.disk / "pid").read_text())
        self._connect()
        port = STORE_PORT if self.name == "store" else 22
        until = time.monotonic() + 60
        while self.listens(port) is False:
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{self.name} does not answer: {(self.disk / 'console.log').read_text()[-2000:]}")
            time.sleep(0.1)

    def _connect(self):
        self.lab.ip("link", "add", f"to-{self.name}", "type", "veth", "peer", "name", "eth0", "netns", str(self.pid))
        self.lab.ip("link", "set", f"to-{self.name}", "master", "switch", "up")
        for words in ("link set lo up", f"addr add {self.address}/24 dev eth0", "link set eth0 up"):
            _checked("nsenter", "--target", str(self.pid), "--net", "ip", *words.split())
        self.is_connected = True

    def power_off(self):
        """Takes its power away: it says no word more, and no connection of its is closed."""
        self.unplug()
        os.kill(self.pid, signal.SIGKILL)
        assert self._process is not None
        self._process.wait(60)
        self.pid = 0
        with contextlib.suppress(subprocess.CalledProcessError):  # the kernel takes it away soon anyway
            self.lab.ip("link", "del", f"to-{self.name}")

    def unplug(self):
        """Pulls its network cable."""
        self.lab.ip("link", "set", f"to-{self.name}", "down")
        self.is_connected = False

    def plug(self):
        """Plugs it in again."""
        self.lab.ip("link", "set", f"to-{self.name}", "up")
        self.is_connected = True

    def command(self, text):
        """A command line that runs a shell's text here as if somebody sat at the machine, in its home folder."""
        words = {
            "HOME": HOME,
            "LANG": "C.UTF-8",
            "TERM": "xterm",
            "PATH": f"{sys.prefix}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "token",
        }
        return [
            *("nsenter", "--target", str(self.pid), "--mount", "--uts", "--ipc", "--net", "--pid"),
            *("env", "-i", *(f"{name}={value}" for name, value in words.items()), "bash", "-c", f"cd; {text}"),
        ]

    def run(self, text, *, timeout=120, check=True):
        """Runs a shell's text here; returns what it came to, output and errors together.

        Raises:
            AssertionError: it fails, and `check` is set.
        """
        done = subprocess.run(
            self.command(text), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            text=True, timeout=timeout,
        )  # fmt: skip
        assert not (check and done.returncode), f"{self.name}$ {text}\n{done.stdout[-4000:]}"
        return done

    def start(self, text, log):
        """Starts a shell's text here and returns the process; what it says goes into a file."""
        with Path(log).open("a") as out:
            return subprocess.Popen(
                [*_LEASH, *self.command(text)], stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip

    def here(self, *words, timeout=120):
        """Runs a command of this checkout on this machine's network; returns what it prints.

        Raises:
            AssertionError: it fails.
        """
        done = subprocess.run(
            ["nsenter", "--target", str(self.pid), "--net", *words],
            cwd=ROOT, env=os.environ | KEYS, capture_output=True, text=True, timeout=timeout,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def listeners(self):
        """The TCP ports that are listened on: pairs of address and port, with the program."""
        found = {}
        for line in self.run("ss -Hltnp").stdout.splitlines():
            fields = line.split()
            address, _, port = fields[3].rpartition(":")
            found[address.strip("[]"), int(port)] = fields[5].split('"')[1] if len(fields) > 5 else ""
        return found

    def listens(self, port):
        """Whether anybody listens on a port; looks into the kernel's table, so nobody is called."""
        for table in ("tcp", "tcp6"):
            for line in Path(f"/proc/{self.pid}/net/{table}").read_text().splitlines()[1:]:
                local, state = line.split()[1], line.split()[3]
                if state == "0A" and int(local.rpartition(":")[2], 16) == port:
                    return True
        return False


SSHD = """
PermitRootLogin prohibit-password
PasswordAuthentication no
AuthorizedKeysFile .ssh/authorized_keys
StrictModes no
UsePAM no
PidFile none
PrintMotd no
MaxStartups 50
MaxSessions 50
"""


def _checked(*words):
    subprocess.run(words, check=True, capture_output=True, text=True, timeout=30)


class Lab:
    """All machines, for the length of a `with`; they are switched on one by one."""

    def __init__(self):
        _remove_those_of_the_dead()
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))
        owner = {"pid": os.getpid(), "start": process_start(os.getpid())}
        (self.folder / "owner.json").write_text(json.dumps(owner))
        self.key, self.host_key = self.folder / "key", self.folder / "host_key"
        self.watched = self.folder / "watched"
        self.watched.mkdir()
        self.pid = 0
        self._process = None
        self.machines = {}

    def __enter__(self):
        for key in (self.key, self.host_key):
            _checked("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(key))
        mark = self.folder / "pid"
        self._process = subprocess.Popen(
            [*_LEASH, "unshare", "--net", "--pid", "--mount", "--fork", "--kill-child", "--propagation", "private",
             "bash", "-ec", _SWITCH, "switch", str(mark)],
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        until = time.monotonic() + 20
        while not (mark.exists() and mark.read_text().strip()):
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("the lab's network cannot be made")
            time.sleep(0.02)
        self.pid = int(mark.read_text())
        self.machines = {name: Machine(self, name) for name in ADDRESSES}
        return self

    def __exit__(self, *_):
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        time.sleep(0.3)
        _remove(self.folder)

    def __getitem__(self, name):
        return self.machines[name]

    def ip(self, *words):
        """Changes the network."""
        _checked("nsenter", "--target", str(self.pid), "--net", "ip", *words)

    def keep_logs(self, folder):
        """Copies what Ray, SSH and the drivers wrote on the machines."""
        for name, machine in self.machines.items():
            patterns = ("console.log", "home/*.log", "tmp/ray/session_2*/logs/*.*")
            for path in (path for pattern in patterns for path in machine.disk.glob(pattern) if path.is_file()):
                kept = folder / name / path.relative_to(machine.disk)
                kept.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileNotFoundError):
                    shutil.copy(path, kept)

    def make_bucket(self):
        """Makes the bucket in the storage, which is on."""
        url = f"http://{self['store'].address}:{STORE_PORT}/{BUCKET}"
        request = f"import urllib.request as r; r.urlopen(r.Request('{url}', method='PUT'))"
        self["laptop"].here(sys.executable, "-c", request)

    @property
    def storage(self):
        """The URI under which sweeps lie."""
        where = f"{self['store'].address}:{STORE_PORT}"
        return f"s3://{BUCKET}/lab?endpoint_override={where}&scheme=http&region=us-east-1"


def _remove_those_of_the_dead():
    for folder in Path("/tmp").glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            owner = json.loads((folder / "owner.json").read_text())
            if process_start(owner["pid"]) != owner["start"]:
                _remove(folder)


def _remove(folder):
    """Removes a lab's folder; its machines' root folders are empty here, as all that was mounted there is gone."""
    for root in folder.glob("*/root"):
        root.rmdir()
    shutil.rmtree(folder, ignore_errors=True)
