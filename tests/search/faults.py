"""What it takes to break a sweep on a real Ray cluster from outside, and to look whether its books hold."""

import contextlib
import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

from results.checking import check
from results.ledger import Ledger
from results.schema import TABLES
from results.storage import Storage
from search import folders, preparation, sweep
from search.lock import process_start
from search.scheduler import Decision
from search.spec import CheckpointSettings, SchedulerSettings, SearcherSettings
from search.state import ENDED, SweepState
from tests.search import rig

ROOT = Path(__file__).resolve().parents[2]
FAKES = ROOT / "tests" / "search" / "fake_task.py"


class Cluster:
    """A Ray cluster of its own, for the length of a `with`; drivers come and go."""

    def __init__(self, *, cpus=2, gpus=0):
        """Takes how much it has; GPUs need not be there."""
        self.cpus, self.gpus = cpus, gpus
        self._folder = tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True)
        self._log = Path(self._folder.name) / "start.log"
        self._process = None
        self.address = ""
        self.environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_agent_register_timeout_ms": "100000",
        }

    def __enter__(self):
        for _ in range(3):
            if self._start():
                return self
            self._end()
        raise RuntimeError(f"no Ray cluster: {self._log.read_text()[-2000:]}")

    def _start(self):
        port, client, agent = free_ports(3)
        command = [
            *(Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--disable-usage-stats"),
            *("--node-ip-address", "127.0.0.1", "--include-dashboard", "false", "--object-store-memory", "100000000"),
            *("--num-cpus", self.cpus, "--num-gpus", self.gpus, "--temp-dir", self._folder.name, "--port", port),
            *("--ray-client-server-port", client, "--dashboard-agent-listen-port", agent),
        ]
        with self._log.open("w") as log:
            self._process = psutil.Popen(list(map(str, command)), stdout=log, stderr=log, env=self.environment)
        until = time.monotonic() + 120
        while time.monotonic() < until and self._process.poll() is None:
            if "Ray runtime started" in self._log.read_text():
                self.address = f"127.0.0.1:{port}"
                return True
            time.sleep(0.1)
        return False

    def _end(self):
        if self._process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            everyone = [self._process, *self._process.children(recursive=True)]
            self._process.terminate()
            psutil.wait_procs(everyone, timeout=10)
            for process in everyone:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self._process = None

    def __exit__(self, *_):
        self._end()
        self._folder.cleanup()

    def workers(self):
        """The processes that hold trials now."""
        found = []
        for process in self._process.children(recursive=True) if self._process else []:
            with contextlib.suppress(psutil.Error):
                line = process.cmdline()
                if line and line[0].startswith(("ray::TrialActor", "ray::trial-")):
                    found.append(process)
        return found

    def kill_a_worker(self, draw):
        """Kills one of them; returns whether there was one."""
        found = self.workers()
        if not found:
            return False
        with contextlib.suppress(psutil.NoSuchProcess):
            draw.choice(found).kill()
            return True
        return False


def free_ports(count):
    """Ports that nobody holds, from below those that the system gives to whoever asks for any: they stay free."""
    found, draw = [], random.SystemRandom()
    while len(found) < count:
        port = draw.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            found += [port] if port not in found else []
    return found


class Subject:
    """A sweep that is run by the command line and broken from outside.

    Attributes:
        brake: a file; epochs of the fake task take their time only while it lies there, as it does at first.
    """

    def __init__(self, cluster, folder, *, text=None, probe=False, patience_s=None, storage=None, **options):
        """Writes the sweep file.

        Args:
            cluster: to run on.
            folder: everything goes there.
            text: of the sweep file; without it, one of the fake task.
            probe: whether the driver notes down the state of its searcher and its scheduler with each flush.
            storage: where the sweep lies; below `folder` without it.
            patience_s: how long the driver waits for a storage that is away; None: as it does by itself.
            options: see `sweep_file`.
        """
        self.patience_s = patience_s
        self.cluster, self.folder = cluster, Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.epochs_log = self.folder / "epochs"
        self.epochs_log.mkdir(exist_ok=True)
        self.brake = self.folder / "brake"
        self.brake.touch()
        self.file = self.folder / "sweep.toml"
        places = {"storage": storage or self.folder / "runs", "log": self.epochs_log, "brake": self.brake}
        self.file.write_text(text or sweep_file(**places, **options))
        self.probe = self.folder / "probe.json" if probe else None
        self.drivers = 0

    @property
    def spec(self):
        from search.sweep_file import load

        return load(self.file)

    @property
    def place(self):
        return folders.folder_of(self.spec)

    def start(self, *arguments, address=True):
        """Starts a driver: the first runs, later ones resume."""
        self.drivers += 1
        if not arguments:
            begun = self.place.exists(sweep.SPEC_FILE)
            arguments = ("resume", self.place.uri) if begun else ("run", str(self.file))
        command = [sys.executable, "-m", "search.cli", *arguments]
        if self.probe:
            command = [sys.executable, "-c", PROBED, str(self.probe), *arguments]
        elif self.patience_s is not None:
            command = [sys.executable, "-c", IMPATIENT, str(self.patience_s), *arguments]
        if arguments[0] in ("run", "resume", "extend") and address:
            command += ["--address", self.cluster.address, "--no-final"]
        with (self.folder / "out.txt").open("a") as out:
            return subprocess.Popen(command, cwd=ROOT, env=self.cluster.environment, stdout=out, stderr=out)

    def finish(self, *, timeout=600):
        """Runs it to its end; returns the exit status."""
        return self.start().wait(timeout)

    @property
    def said(self):
        return (self.folder / "out.txt").read_text()

    def wait_for_epochs(self, count, *, driver=None):
        """Waits until so many epochs were trained; returns whether they were before the driver ended."""
        return self.wait_until(lambda: self.trained >= count, driver=driver)

    def wait_for_processes(self, count, *, driver, since=0):
        """Waits until so many processes have trained epochs since a time; returns whether before the driver ended."""
        return self.wait_until(lambda: len(self.processes(since)) >= count, driver=driver)

    def wait_until(self, condition, *, driver=None, timeout=240, look_s=0.02):
        """Waits until something is so; returns whether it was before the driver ended."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            if condition():
                return True
            if driver is not None and driver.poll() is not None:
                return False
            time.sleep(look_s)
        raise TimeoutError(f"not so within {timeout} s, {self.trained} epochs trained: {self.said[-2000:]}")

    @property
    def trained(self):
        return sum(1 for _ in self.epochs_log.iterdir())

    def processes(self, since=0):
        """The processes that have trained epochs since a time, in `time.monotonic_ns()`."""
        names = (path.name.split("-") for path in self.epochs_log.iterdir())
        return {int(pid) for _, _, pid, when in names if int(when) > since}

    def wait_for_ends(self, pids, *, left=0):
        """Waits until no more than so many of some processes live: what is lost may train on for a moment."""
        self.wait_until(lambda: sum(process_start(pid) is not None for pid in pids) <= left)

    @property
    def is_over(self):
        ledger = Ledger(self.place)
        if not ledger.exists:
            return False
        state = SweepState(ledger.schema).replay(ledger.events())
        return len(state.trials) == self.spec.trials and all(trial.state in ENDED for trial in state.trials.values())


IMPATIENT = """
import sys
from search import conductor
from search.cli import main
conductor.PATIENCE_S, sys.argv[1:] = float(sys.argv[1]), sys.argv[2:]
main()
"""
"""A driver that gives up soon if its storage is away."""

PROBED = """
import json, os, sys
from search.cli import main
from search.conductor import Conductor
path, sys.argv[1:] = sys.argv[1], sys.argv[2:]
flush = Conductor.flush
def probed(self, **options):
    flush(self, **options)
    if not self._num_buffered:
        known = {"seq": self.state.seq, "searcher": self._searcher.state(), "scheduler": self._scheduler.state()}
        with open(path + ".new", "w") as file:
            json.dump(known, file)
        os.replace(path + ".new", path)
Conductor.flush = probed
main()
"""
"""A driver that writes down what its searcher and its scheduler know, each time that the ledger has it too."""


def sweep_file(
    *,
    storage,
    log="",
    brake="",
    name="broken",
    trials=20,
    epochs=9,
    epoch_s=0.02,
    searcher="tpe",
    scheduler="asha",
    concurrency=0,
    every_s=0.2,
    retries=50,
    extra="",
    task="FakeTask",
    options="",
    trial_time="5 min",
):
    """The text of a sweep file with a fake task."""
    return f"""
[sweep]
name = "{name}"
task = "{FAKES}:{task}"
objectives = ["loss min"]
trials = {trials}
epochs = {epochs}
seed = 11
storage = "{storage}"
concurrency = {concurrency}
trial_time = "{trial_time}"
{extra}
[task]
epoch_s = {epoch_s}
{f'log = "{log}"' if log and task == "FakeTask" else ""}
{f'brake = "{brake}"' if brake and task == "FakeTask" else ""}
{options}
[searcher]
kind = "{searcher}"
startup_trials = 5
[scheduler]
kind = "{scheduler}"
audit_share = 0.1
[resources]
retries = {retries}
[checkpoints]
every = "{every_s} s"
[final]
models = 0
"""


# --- looking at the books ---------------------------------------------------------------------------------------------


def outcome(state):
    """What a sweep came to, without times and the accidents of attempts."""
    return {
        number: (trial.state, trial.epoch, trial.best_epoch, sorted(trial.values.items()), trial.reason_kind)
        for number, trial in state.trials.items()
    }


def state_of(place):
    """The state that a ledger comes to."""
    ledger = Ledger(place)
    return SweepState(ledger.schema).replay(ledger.events())


def duplicate_keys(place):
    """How many rows that readers see have the key of another."""
    ledger, count = Ledger(place), 0
    for name, table in TABLES.items():
        keys = ledger.table(name).select(list(table.key)).to_pylist()
        count += len(keys) - len({tuple(row.values()) for row in keys})
    return count


def accounted_for(place, trials):
    """How many trials have ended and have exactly one row that says how."""
    state = state_of(place)
    rows = Counter(row["trial"] for row in Ledger(place).table("trials").to_pylist())
    return sum(
        number in state.trials and state.trials[number].state in ENDED and rows[number] == 1 for number in range(trials)
    )


def problems(place):
    """What `results check` finds."""
    return [str(problem) for problem in check(Ledger(place))]


def trained_again(subject):
    """How much was trained beyond the first time, and the most that one attempt did again.

    An attempt is a piece of consecutive epochs in one process. What two attempts do again in succession is not added:
    each of them goes on from the last checkpoint that it finds, and loses what came after that.

    Returns:
        Epochs trained in all, those trained again, and the most that one attempt did again.
    """
    runs: dict[str, list[tuple[int, int, int]]] = {}
    for path in subject.epochs_log.iterdir():
        seed, epoch, pid, when = map(int, path.name.split("-"))
        runs.setdefault(str(seed), []).append((when, epoch, pid))
    counts = [_again(sorted(trained)) for trained in runs.values()]
    return (
        sum(map(len, runs.values())),
        sum(again for again, _ in counts),
        max((most for _, most in counts), default=0),
    )


def _again(trained):
    """Epochs of one trial that were trained again, and the most that one attempt did again.

    Args:
        trained: when, which epoch and in which process, in the order of time.
    """
    again = most = seen = 0
    pieces: dict[int, tuple[int, int]] = {}  # by process, as a lost one may still be at it when the next begins
    for _, epoch, pid in trained:
        before, piece = pieces.get(pid, (0, 0))
        piece = (piece if epoch == before + 1 else 0) + (epoch <= seen)
        pieces[pid] = (epoch, piece)
        again += epoch <= seen
        seen, most = max(seen, epoch), max(most, piece)
    return again, most


def rebuilt(spec, events):
    """Searcher and scheduler told anew of a ledger's events, without the conductor.

    Returns:
        The state of each.
    """
    prepared = preparation.prepare(spec)
    searcher, scheduler = preparation.make_searcher(prepared), preparation.make_scheduler(prepared)
    state = SweepState(prepared.schema)
    sign = -1.0 if state.goal == "max" else 1.0
    names = ("trial", "epoch", "bracket", "rung", "value", "cutoff", "num_values", "verdict", "audited")
    told = set()
    for table, row in events:
        if table == "decisions":
            scheduler.recorded(Decision(**{name: row[name] for name in names}))
        state.apply(table, row)
        if table == "proposals":
            values = state.trials[row["trial"]].values
            searcher.add(row["trial"], values)
            scheduler.start(row["trial"], first_rung=preparation.first_rung(prepared, values))
        elif table == "epochs":
            loss = state.loss(row["trial"], row["epoch"])
            earlier = state.trials[row["trial"]].decisions.get(row["epoch"])
            stands = earlier and earlier.attempt < row["attempt"] and earlier.verdict in ("continue", "promote")
            if loss is not None and not stands:
                scheduler.report(row["trial"], row["epoch"], loss)
            scheduler.released()
        elif table == "trials" and row["state"] in ENDED:
            trial = state.trials[row["trial"]]
            if trial.trial not in told:
                told.add(trial.trial)
                best = None if trial.best_epoch is None else state.results(trial.trial, trial.best_epoch)
                curve = {epoch: sign * each for epoch, each in state.losses(trial.trial).items()}
                searcher.tell(trial.trial, row["state"], best, curve)
            if row["state"] != "stopped":
                scheduler.end(trial.trial)
    return json.loads(json.dumps(searcher.state())), json.loads(json.dumps(scheduler.state()))


def probe_holds(subject):
    """Whether what the driver knew at its last flush is what a replay of the ledger up to there comes to.

    Returns:
        None if no driver has come as far as a flush, or its ledger is already beyond it.
    """
    if subject.probe is None or not subject.probe.exists():
        return None
    known = json.loads(subject.probe.read_text())
    ledger = Ledger(subject.place)
    events = [(table, row) for table, row in ledger.events() if row["seq"] <= known["seq"]]
    if not events or events[-1][1]["seq"] != known["seq"]:
        return None
    return rebuilt(subject.spec, events) == (known["searcher"], known["scheduler"])


def copied(place, folder):
    """A copy of a sweep's folder, to be damaged."""
    import shutil

    shutil.copytree(place.uri, folder)
    return Storage(folder)


def kill_driver(driver, draw, *, within_s):
    """Kills a driver after a random time; returns whether it still lived."""
    try:
        driver.wait(draw.uniform(0, within_s))
        return False
    except subprocess.TimeoutExpired:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        return True


def breaking(subject, *, drivers=0, workers=0, both=0, seed=0, within_s=2.0, on_kill=lambda: None):
    """Kills drivers, workers, or both at random moments, until there were so many; leaves the sweep without a driver.

    A driver that lives then is let go on without the brake. Moments are counted from the first epoch that a driver's
    workers train, and every fourth from its start.

    Returns:
        The number of kills: drivers, workers.
    """
    draw = random.Random(seed)
    killed = Counter()
    driver = None
    wanted = ["driver"] * drivers + ["worker"] * workers + ["both"] * both
    draw.shuffle(wanted)
    for number, what in enumerate(wanted):
        if driver is None or driver.poll() is not None:
            if driver is not None and subject.is_over:
                break
            driver = subject.start()
            if number % 4 or what != "driver":
                subject.wait_for_epochs(subject.trained + 1, driver=driver)
        time.sleep(draw.uniform(0, within_s))
        if what in ("worker", "both"):
            until = time.monotonic() + 30
            while not (hit := subject.cluster.kill_a_worker(draw)) and driver.poll() is None:
                if time.monotonic() > until:
                    break
                time.sleep(0.05)
            killed["worker"] += hit
        if what in ("driver", "both") and driver.poll() is None:
            driver.kill()
            driver.wait()
            killed["driver"] += 1
            on_kill()
    if driver is not None and driver.poll() is None:
        subject.brake.unlink(missing_ok=True)
        driver.wait(600)
    return killed["driver"], killed["worker"]


@contextlib.contextmanager
def small_disk(folder, *, size):
    """Makes `folder` a file system of its own, of so many bytes, for the length of a `with`.

    Raises:
        PermissionError: this user may not mount.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, text=True
    )
    if made.returncode:
        raise PermissionError(f"no file system at {folder}: {made.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def filled(folder):
    """Fills a disk to its last byte; returns the file that does."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return path


def filling(subject, disk, *, times, seed=0):
    """Fills the disk below a sweep at random moments; returns how often it was full.

    Every third time it stays so until the driver has given up. Leaves the sweep without a driver.
    """
    draw = random.Random(seed)
    driver, full = None, 0
    for number in range(times):
        if driver is None or driver.poll() is not None:
            if driver is not None and subject.is_over:
                break
            driver = subject.start()
            if not subject.wait_for_epochs(subject.trained + 1, driver=driver):
                continue
        time.sleep(draw.uniform(0, 1.0))
        filler = filled(disk)
        full += 1
        if number % 3 == 2:
            driver.wait(120)
        else:
            time.sleep(draw.uniform(0.2, 0.5 * (subject.patience_s or 60.0)))
        filler.unlink()
    if driver is not None and driver.poll() is None:
        driver.wait(300)
    return full


def cutting(subject, *, times, seed=0):
    """Kills drivers and cuts a part of their last flush short, as a crash of the machine may; returns how often."""
    draw = random.Random(seed)
    cut = 0
    for _ in range(times):
        driver = subject.start()
        if not subject.wait_for_epochs(subject.trained + 1, driver=driver):
            break
        if not kill_driver(driver, draw, within_s=3.0):
            continue
        parts = [path for path in Path(subject.place.uri, "ledger").glob("*/s*.parquet") if path.stat().st_size]
        newest = max((path.name for path in parts), default="")
        for path in draw.sample([path for path in parts if path.name == newest], bool(newest)):
            with path.open("r+b") as file:
                file.truncate(draw.randrange(path.stat().st_size))
            cut += 1
    return cut


def dying(folder, scheduler, searcher, *, seed):
    """Runs a sweep in this process whose driver dies a few times at random moments, with all settings drawn.

    Returns:
        Its spec, its last conductor, and how often it died.
    """
    draw = random.Random(f"{scheduler} {searcher} {seed}")
    brackets = {"brackets": draw.choice([1, 2])} if scheduler.startswith("asha") else {}
    given = rig.spec(
        folder,
        scheduler=SchedulerSettings(kind=scheduler, audit_share=draw.choice([0, 0.2]), reduction=2, **brackets),
        trials=draw.randrange(5, 12),
        epochs=draw.choice([4, 6, 9]),
        searcher=SearcherSettings(kind=searcher, startup_trials=3),
        checkpoints=CheckpointSettings(every_s=draw.choice([1e-6, 1e-6, 1000.0])),
        seed=seed,
    )
    deaths = draw.randrange(1, 6)
    for _ in range(deaths):
        rig.run(
            given,
            workers=draw.randrange(1, 4),
            steps=draw.randrange(0, 25),
            flush_every=draw.randrange(1, 8),
            order=draw.randrange(2**32),
        )
    return given, rig.run(given, workers=2, order=draw.randrange(2**32)), deaths
