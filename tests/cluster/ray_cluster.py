"""The real `ray up` in the lab, with the cluster file for machines that one has, and sweeps that are sent there."""

import json
import re
import shlex
import shutil
import sys
import time

import yaml

from tests.cluster.lab import HOME, KEYS, ROOT
from tests.cluster.lab_sweeps import SLOTS, sweep_files

TREE = ("bach", "results", "search", "sweeps", "pyproject.toml", "constraints.txt", "README.md", "LICENSE")
TESTS = ("tests/search/fake_task.py", "tests/cluster/lab_task.py")
FILE = "lab.yaml"
PROJECT = "chorale-search"
INSTALLS = re.compile(r"pip install|findmnt")
"""Lines of the file that have no place here: all machines see one environment, and the storage is no folder."""
SETTINGS = {"PYTHONPATH": f"{HOME}/{PROJECT}", "RAY_agent_register_timeout_ms": "100000"} | KEYS
"""Instead of installing the project; patience with a busy machine; and the storage's keys."""
ALL = ("head", *SLOTS)
"""The machines that the cluster has when all is well."""
AGENT_PORT = 52365
"""Where each of them takes jobs from the head."""
DRIVERS, WORKERS = "[b]in/search (run|resume)", "ray::[T]rialActor|ray::[t]rial-|ray::[C]rewMember"
"""Processes of a sweep, on the head and elsewhere; the patterns do not match the commands that they stand in."""
ASK = """
import http.client, sys, urllib.error, urllib.request
headers = {"Authorization": f"Bearer {sys.argv[2]}"} if sys.argv[2] else {}
data = sys.argv[3].encode() if sys.argv[3] else None
request = urllib.request.Request(sys.argv[1], data=data, headers=headers | {"Content-Type": "application/json"})
try:
    print(urllib.request.urlopen(request, timeout=10).status)
except urllib.error.HTTPError as error:
    print(error.code)
except (OSError, http.client.HTTPException):
    print(0)
"""


def answer(machine, url, token="", data=""):
    """The HTTP status that a machine gets; 0 if nobody listens there, or does not speak HTTP."""
    return int(machine.here(sys.executable, "-c", ASK, url, token, data))


def cluster_file(text, lab, *, workers=("w1", "w2")):
    """The text of a cluster file for the lab, from that of clusters/local.yaml."""
    document = yaml.safe_load(text)
    document["provider"] |= {"head_ip": lab["head"].address, "worker_ips": [lab[name].address for name in workers]}
    document["auth"] = {"ssh_user": "root", "ssh_private_key": "~/.ssh/id_ed25519"}
    document["metadata"] = {"storage": lab.storage}
    document["file_mounts"] |= {f"~/{PROJECT}/tests": "tests"}
    exports = " ".join(f"{name}={value}" for name, value in SETTINGS.items())
    for key in ("initialization_commands", "setup_commands", "worker_setup_commands"):
        document[key] = [line for line in document[key] if not INSTALLS.search(line)]
    document["setup_commands"].append(f"grep -q PYTHONPATH ~/.bashrc || echo 'export {exports}' >> ~/.bashrc")
    starts = document["worker_start_ray_commands"]
    starts[-1] = re.sub(r"ray start ", f"ray start --num-cpus={SLOTS['w1']} ", starts[-1])
    return yaml.safe_dump(document, sort_keys=False, width=1000)


class RayCluster:
    """What a person at the laptop does with a cluster."""

    def __init__(self, lab):
        self.lab = lab
        self.laptop, self.head = lab["laptop"], lab["head"]
        self.tree = self.laptop.home / "project"

    def prepare(self):
        """Puts the working tree onto the laptop, with a token."""
        without = shutil.ignore_patterns("__pycache__", "*.egg-info")
        for name in TREE:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, self.tree / name, ignore=without)
            else:
                shutil.copy(source, self.tree / name)
        for name in TESTS:
            (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.tree / name)
        self.write_file()
        sweeps = self.tree / "sweeps" / "lab"
        sweeps.mkdir()
        for name, text in sweep_files(self.lab).items():
            (sweeps / f"{name}.toml").write_text(text)
        exports = "".join(f"export {name}={value}\n" for name, value in KEYS.items())
        (self.laptop.home / ".bashrc").write_text(exports)
        self.laptop.run(
            "(umask 077; mkdir -p ~/.ray; ray get-auth-token --generate > /dev/null; chmod 600 ~/.ray/auth_token)"
        )

    @property
    def token(self):
        """What all are asked for."""
        return (self.laptop.home / ".ray" / "auth_token").read_text().strip()

    def write_file(self, **options):
        """Writes the cluster's file."""
        text = (ROOT / "clusters" / "local.yaml").read_text()
        (self.tree / FILE).write_text(cluster_file(text, self.lab, **options))

    def in_tree(self, text, **options):
        """Runs a shell's text on the laptop, in the project's folder."""
        return self.laptop.run(self._in_tree(text), **options)

    def start_in_tree(self, text, log):
        """Starts a shell's text there; returns the process."""
        return self.laptop.start(self._in_tree(text), log)

    def _in_tree(self, text):
        settings = KEYS | {"PYTHONPATH": f"{HOME}/project", "RAY_UP_enable_autoscaler_v2": "0"}
        exports = " ".join(f"{name}={value}" for name, value in settings.items())
        return f"cd project; export {exports}; {text}"

    def up(self):
        """Runs `ray up`; returns what it said."""
        return self.in_tree(f"ray up -y {FILE}", timeout=400).stdout

    def nodes(self):
        """The names of the machines that the cluster has now."""
        code = (
            "import json; from ray._raylet import GcsClient;"
            f"c = GcsClient(address='{self.head.address}:6379');"
            "print(json.dumps([n.node_manager_address for n in c.get_all_node_info().values() if n.state == 0]))"
        )
        for _ in range(2):  # a busy head is asked again
            done = self.head.run(f"timeout 50 python -c {shlex.quote(code)}", check=False)
            if done.returncode == 0:
                there = json.loads(done.stdout.strip().splitlines()[-1])
                return {name for name, machine in self.lab.machines.items() if machine.address in there}
        return set()

    def wait_for_nodes(self, *names, timeout=240):
        """Waits until the cluster has exactly these machines; returns how long it took, in seconds."""
        began = time.monotonic()
        while (there := self.nodes()) != set(names):
            if time.monotonic() - began > timeout:
                raise TimeoutError(f"the cluster has {sorted(there)}, not {sorted(names)}, after {timeout} s")
            time.sleep(0.5)
        return time.monotonic() - began

    def is_ready(self):
        """Whether all machines are on, connected and in the cluster, and nobody's sweep runs there."""
        there = (*ALL, "store")
        return (
            all(self.lab[name].is_on and self.lab[name].is_connected for name in there)
            and all(self.lab[name].listens(AGENT_PORT) for name in ALL)  # one that was just switched on does not
            and not self._has(DRIVERS, "head")
            and self.nodes() == set(ALL)
        )

    def repair(self):
        """Sees to it that the cluster is ready, whatever a test has left behind that failed."""
        for name in (*ALL, "store"):
            machine = self.lab[name]
            if machine.is_on:
                machine.plug()
            else:
                machine.boot()
        self.head.run(f"pkill -KILL -f '{DRIVERS}'", check=False)
        if "head" not in self.nodes():
            self.up()
        self.wait_for_nodes(*ALL)
        until = time.monotonic() + 120
        while any(self._has(WORKERS, name) for name in SLOTS) or not self.is_ready():
            assert time.monotonic() < until, f"it does not come back: {self.nodes()}"
            time.sleep(1)

    def _has(self, pattern, name):
        return self.lab[name].run(f"pgrep -f '{pattern}'", check=False).returncode == 0
