"""Ray Tune: places attempts on workers and carries what passes between them and the conductor.

Each attempt at a trial is one trial of Tune's. Tune decides where it runs and keeps its actors warm; it retries
nothing, saves nothing and stops nothing by itself. So what is known to go wrong between Tune, searchers and schedulers
has no place here where it could.
"""

import logging
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from results.opening import typed
from results.storage import Storage
from search.attempts import Attempt, Progress
from search.conductor import Conductor
from search.connection import tells_of_a_lost_machine
from search.errors import SweepAborted
from search.marks import Marks, label
from search.trial import Worker

_log = logging.getLogger(__name__)

SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the ledger is what is written
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # ours finishes epochs first
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # nothing of Tune's is ever restored
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # they have rows
    "TUNE_RESULT_BUFFER_LENGTH": "1",  # a worker bundles epochs by itself, but never past a milestone
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_WARN_THRESHOLD_S": "60",
    "RAY_AIR_NEW_OUTPUT": "0",
}
"""What Tune reads from the environment, set for the driver before it runs."""
MAX_PENDING = 64
"""Trials that may wait for room in the cluster; the conductor hands out no more than its concurrency anyway."""
NODE = "ray_node"
"""Names, in what an actor tells, the Ray node that it runs on."""
ANSWER_S = 1.0
"""How long a node may take to answer before it counts as gone."""
FOLDER = ".tune"
"""Where Tune puts its own files below the sweep's folder; removed when it is done."""
WAITING_S = 60.0
"""When nothing has begun for so long, the user is told."""
LATE_S = 1.0
"""So much may pass between a worker's beginning and word of it."""
WITHDRAW_S = 2.0
"""A sweep that is to end waits no longer than this for workers that have not begun."""


class DueForReplacement(Exception):
    """A worker process has grown too large for another attempt."""


class TrialActor(tune.Trainable):
    """A warm worker process: runs one attempt after another.

    It can be found by their names, such as `trial-00007-1`: its log has lines where each begins and ends, while one
    runs it is the title of the process, and Ray calls the actor after its first one.
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """Returns what an attempt is given."""
        attempt = config["attempt"]
        return tune.PlacementGroupFactory(
            [{"CPU": attempt["cpus"], **({"GPU": attempt["gpus"]} if attempt["gpus"] else {})}]
        )

    def setup(self, config: dict[str, Any]) -> None:
        """Makes the worker and begins its first attempt."""
        self._worker = Worker(**config["worker"])
        self._marks = Marks(config["worker"]["storage"])
        attempt = Attempt.of(config["attempt"])
        self._first = label(attempt.trial, attempt.attempt)
        self._worker.begin(attempt)
        self._marks.begin(attempt)

    def __repr__(self) -> str:
        return f"TrialActor({self._first})"

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begins another attempt; ends the process if it has grown too large for one.

        Raises:
            DueForReplacement: it has. (Were False returned, Tune would drop the trial and tell nobody.)
        """
        attempt = Attempt.of(new_config["attempt"])
        if not self._worker.begin(attempt):
            raise DueForReplacement
        self._marks.begin(attempt)
        return True

    def step(self) -> dict[str, Any]:
        """Runs the next epochs."""
        self._marks.step()
        progress = self._worker.step()
        self._marks.told(progress)
        # In a list, which Tune does not take apart.
        return {"progress": [progress.document()], NODE: ray.get_runtime_context().get_node_id()}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Saves nothing: the worker writes its own checkpoints."""
        return {}

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Loads nothing; see `save_checkpoint`."""

    def cleanup(self) -> None:
        """Removes what the process wrote outside the sweep's folder."""
        self._marks.end()
        self._worker.close()


class _Supply(Searcher):
    """Hands the conductor's attempts to Tune, as if they were suggestions."""

    def __init__(self, link: "_Link"):
        super().__init__(metric="objective", mode="min")
        self._link = link

    def suggest(self, trial_id: str) -> Any:
        return self._link.suggest(trial_id)

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        pass

    def save(self, checkpoint_path: str) -> None:
        pass

    def restore(self, checkpoint_path: str) -> None:
        pass


class _Verdicts(FIFOScheduler):
    """Hands what workers tell to the conductor, and its verdict to Tune."""

    def __init__(self, link: "_Link"):
        super().__init__()
        self._link = link

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict) -> str:
        return TrialScheduler.CONTINUE if self._link.told(trial, result) else TrialScheduler.STOP

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        self._link.lost(trial)


class _Beat(tune.Callback):
    """Lets the conductor and the view do what is due, a few times a second."""

    def __init__(self, link: "_Link"):
        self._link = link

    def setup(self, **info: Any) -> None:
        self._link.take_back_signals()

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._link.began(trial)

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        self._link.beat()


class _Stopper(tune.Stopper):
    """Ends Tune's loop when the conductor is done or has failed."""

    def __init__(self, link: "_Link"):
        self._link = link

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._link.over


class _Link:
    """What the pieces that Tune asks for have in common.

    Tune turns exceptions into reports of its own; the first one is kept here and raised when its loop has ended.
    """

    def __init__(self, conductor: Conductor, worker: Mapping[str, Any], on_beat: Callable[[], None]):
        self._conductor, self._worker, self._on_beat = conductor, dict(worker), on_beat
        self._attempts: dict[str, Attempt] = {}
        self._begun: dict[tuple[int, int], float] = {}
        self._nodes: dict[tuple[int, int], str] = {}
        self._moved = time.monotonic()
        self._has_told_of_waiting = self._has_withdrawn = False
        self._on_signal = signal.getsignal(signal.SIGUSR1)
        self.failure: BaseException | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Tune writes its parts down at the start; nothing of the sweep goes with them, and nobody reads them."""
        return {}

    @property
    def over(self) -> bool:
        return self.failure is not None or self._has_withdrawn

    def take_back_signals(self) -> None:
        """Tune takes SIGUSR1 for itself and ends its loop at once: nothing is saved, and it looks like the end."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGUSR1, self._on_signal)

    def began(self, trial: Any) -> None:
        attempt = self._attempts[trial.trial_id]
        self._begun[attempt.trial, attempt.attempt] = time.monotonic()
        try:
            self._conductor.began(attempt.trial, attempt.attempt)
        except BaseException as error:  # noqa: BLE001 - kept, and raised after Tune's loop
            self.failure = self.failure or error

    def suggest(self, trial_id: str) -> Any:
        try:
            attempt = None if self.over else self._conductor.next_attempt()
            if attempt is None:
                return Searcher.FINISHED if self.over or self._conductor.is_finished() else None
        except BaseException as error:  # noqa: BLE001 - kept, and raised after Tune's loop
            self.failure = error
            return Searcher.FINISHED
        self._attempts[trial_id] = attempt
        return {"attempt": attempt.document(), "worker": self._worker}

    def told(self, trial: Any, result: dict) -> bool:
        attempt = self._attempts[trial.trial_id]
        self._nodes[attempt.trial, attempt.attempt] = result[NODE]
        try:
            return self._conductor.report(attempt.trial, attempt.attempt, Progress.of(result["progress"][0]))
        except BaseException as error:  # noqa: BLE001 - kept, and raised after Tune's loop
            self.failure = self.failure or error
            return False

    def lost(self, trial: Any) -> None:
        attempt = self._attempts[trial.trial_id]
        text = _said(trial)
        try:
            if DueForReplacement.__name__ in text:
                self._conductor.returned(
                    attempt.trial, attempt.attempt, "memory_limit", "the worker was due for replacement"
                )
                return
            begun = self._begun.get((attempt.trial, attempt.attempt))
            kind, reason = _cause(text, attempt, ran_s=0.0 if begun is None else time.monotonic() - begun)
            node = self._nodes.get((attempt.trial, attempt.attempt))
            if kind == "worker_died" and node is not None and not _answers(node):
                kind, reason = "node_lost", "its machine went away"  # Ray has not noticed yet
            lost = Progress(outcome="lost", reason_kind=kind, reason=reason, detail=text[-4000:])
            if kind == "time_limit":
                lost = Progress(outcome="failed", reason_kind=kind, reason=reason)
            self._conductor.failed(attempt.trial, attempt.attempt, lost)
        except BaseException as error:  # noqa: BLE001 - kept, and raised after Tune's loop
            self.failure = self.failure or error

    def beat(self) -> None:
        if self.over:
            return
        try:
            self._conductor.tick()
            self._on_beat()
            self._see_to_those_that_wait()
        except BaseException as error:  # noqa: BLE001 - kept, and raised after Tune's loop
            self.failure = error

    def _see_to_those_that_wait(self) -> None:
        """Says so if the cluster has no room for any attempt, and takes them back if the sweep is to end."""
        running = self._conductor.running
        now = time.monotonic()
        if not running or any((each.trial, each.attempt) in self._begun for each in running.values()):
            self._moved = now
            return
        if not self._has_told_of_waiting and now - self._moved >= WAITING_S:
            self._has_told_of_waiting = True
            _log.warning("no worker has begun for %.0f s: the cluster is busy, or too small for a trial", WAITING_S)
        if self._conductor.is_ending and now - self._moved >= WITHDRAW_S:
            kind = "user" if self._conductor.stopping else "budget"
            for attempt in list(running.values()):
                self._conductor.returned(attempt.trial, attempt.attempt, kind, "the sweep ended before it could begin")
            self._has_withdrawn = True


def _said(trial: Any) -> str:
    """Returns what Ray says of the end of a trial's actor: it has just been written to a file of this machine."""
    try:
        return Path(trial.error_file).read_text("utf-8", errors="replace")
    except (OSError, TypeError):
        return ""


def _cause(text: str, attempt: Attempt, *, ran_s: float) -> tuple[str, str]:
    """Returns why an actor is gone, as one of the ledger's words and as a sentence.

    Args:
        text: what Ray says.
        attempt: that it ran.
        ran_s: for how long.
    """
    lower = text.lower()
    if tells_of_a_lost_machine(text):
        return "node_lost", "its machine went away"
    # Whenever a process dies, Ray names the system's OOM killer as one possible cause; these words mean its own.
    if "outofmemoryerror" in lower or "memory_usage_threshold" in lower:
        return "host_memory", "its process was ended because the machine ran out of memory"
    # A worker ends itself at its limit; that it has begun is heard of a moment later.
    if attempt.time_limit_s is not None and ran_s >= 0.95 * attempt.time_limit_s - LATE_S:
        return "time_limit", f"it took longer than {attempt.time_limit_s:g} s and was ended"
    # The connection broke, and yet the machine has not told that the process ended, as it does within a second.
    if "actorunavailableerror" in lower:
        return "node_lost", "its machine cannot be reached"
    return "worker_died", "its process ended"


def _answers(node_id: str) -> bool:
    """Returns whether the process that Ray has on each of its nodes can be reached on this one.

    When a machine goes down, its workers often end first; then Ray tells of them, and of the machine only later.
    """
    for node in ray.nodes():
        if node["NodeID"] == node_id and node["Alive"]:
            try:
                socket.create_connection((node["NodeManagerAddress"], node["NodeManagerPort"]), ANSWER_S).close()
            except OSError:
                return False
            return True
    return False


def run(
    conductor: Conductor,
    *,
    storage: Storage,
    worker: Mapping[str, Any],
    on_beat: Callable[[], None],
) -> None:
    """Runs the conductor's attempts on the Ray cluster that this process is connected to, until there are no more.

    Args:
        conductor: says what runs.
        storage: of the sweep.
        worker: what `search.trial.Worker` is made with.
        on_beat: called a few times a second.

    Raises:
        SearchError: as the conductor raises it; workers are stopped then.
        SweepAborted: Tune's loop has ended before the sweep.
    """
    os.environ.update(SETTINGS)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(max(MAX_PENDING, conductor.concurrency))
    link = _Link(conductor, worker, on_beat)
    place = storage.child(FOLDER)
    config = tune.RunConfig(
        name=f"session-{os.getpid()}",
        **_place(place),
        verbose=0,
        stop=_Stopper(link),
        callbacks=[_Beat(link)],
        failure_config=tune.FailureConfig(max_failures=0),
        checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False, checkpoint_frequency=0),
    )
    tuner = tune.Tuner(
        TrialActor,
        tune_config=tune.TuneConfig(
            search_alg=_Supply(link),
            scheduler=_Verdicts(link),
            num_samples=-1,
            reuse_actors=True,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=config,
    )
    quiet = logging.getLogger("ray.tune")
    level = quiet.level
    quiet.setLevel(logging.CRITICAL)
    try:
        tuner.fit()
    except Exception:
        if link.failure is None:
            raise
    finally:
        quiet.setLevel(level)
        _remove(place)
    if link.failure is not None:
        raise link.failure
    if not conductor.is_finished():
        raise SweepAborted(
            f"Ray Tune ended its loop while {len(conductor.running)} trials ran and others were to come; "
            f"`search resume {typed(storage)}` goes on where it stopped"
        )


def _name(trial: Any) -> str:
    attempt = trial.config["attempt"]
    return label(attempt["trial"], attempt["attempt"])


def _place(storage: Storage) -> dict[str, Any]:
    """Returns where Tune keeps its own files, as it wants to be told."""
    if storage.is_local:
        return {"storage_path": str(Path(storage.uri).absolute())}
    filesystem, path = storage.for_arrow()
    return {"storage_path": path, "storage_filesystem": filesystem}


def _remove(storage: Storage) -> None:
    try:
        storage.remove("")
    except Exception as error:  # noqa: BLE001 - Tune's own leavings are not worth an error
        _log.debug("Tune's files stay at %s: %s", storage.uri, error)
    if storage.is_local:
        shutil.rmtree(storage.uri, ignore_errors=True)
