"""A sweep from its file to its end: begun, interrupted, resumed, extended, stopped.

`run` begins a sweep, goes on with one that was interrupted (`go_on`), or gives one that is over more (`extend`).
"""

import contextlib
import dataclasses
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from results.errors import StorageError
from results.ledger import Ledger, Writer
from results.opening import typed
from results.storage import Storage
from search import environment, stopping, sweep_file, warm_start
from search.checkpoints import SPEC_FILE, identity, unrecorded
from search.conductor import PATIENCE_S, Conductor, trial_seed
from search.connection import room
from search.crews import Connecting, Crew
from search.errors import SweepAborted, SweepError, SweepStopped, TaskError
from search.final_candidates import Source, other_sources
from search.final_job import FinalJob
from search.final_summary import FinalSummary
from search.folders import find, folder_of, read_spec
from search.interrupts import finishing, terminable
from search.lock import Lock, held_by
from search.notification import notifying
from search.preparation import Prepared, first_rung, make_conductor, make_scheduler, make_searcher, other_data, prepare
from search.retention import Retention
from search.spec import SweepSpec
from search.state import SweepState
from search.task import asked

_log = logging.getLogger(__name__)

POLL_S = 1.0
"""How often the driver looks whether it was asked to stop."""
RETENTION_S = 1.0
"""Checkpoints of trials that have ended are removed so soon, once the ledger knows of their end."""
FIT_S = 5.0
"""How often the driver looks how large the cluster is."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ending:
    """How a session of a sweep ended.

    Attributes:
        finished: the sweep is over: all its trials have ended, or a budget is used up.
        why: in words, if it ended before all its trials had; "" otherwise.
        state: what it came to.
        storage: where it lies.
        final: what the final job came to; None if there was none.
    """

    finished: bool
    why: str
    state: SweepState
    storage: Storage
    final: FinalSummary | None = None


class Watcher(Protocol):
    """What is told how a sweep goes; `search.view` has those for terminals."""

    def event(self, table: str, row: Mapping[str, Any]) -> None:
        """Takes in an event, after the state has."""
        ...

    def tick(self) -> None:
        """Called a few times a second."""
        ...

    def note(self, text: str) -> None:
        """Takes in what a person at the terminal should know."""
        ...


class Quiet:
    """A watcher that only logs."""

    def event(self, table: str, row: Mapping[str, Any]) -> None:
        """Does nothing."""

    def tick(self) -> None:
        """Does nothing."""

    def note(self, text: str) -> None:
        """Logs it."""
        _log.info(text)


Watch = Callable[[Conductor], contextlib.AbstractContextManager[Watcher]]
"""Makes what watches a sweep, for the time that it runs."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Session:
    """A sweep taken up by this process, which alone may write to it.

    Attributes:
        number: counts from 1.
        row: of the table of sessions.
        conductor: at the point that the sweep had come to.
    """

    number: int
    row: Mapping[str, Any]
    prepared: Prepared
    storage: Storage
    conductor: Conductor
    writer: Writer
    lock: Lock


def _saved(prepared: Prepared, storage: Storage, state: SweepState) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yields trials that have saved a state before they could be written down, and their configurations."""
    spec = prepared.spec
    for found in unrecorded(storage, state.trials):
        own = identity(spec.task, spec.options, found.values, trial_seed(spec.seed, found.trial))
        if found.identity == own and prepared.space.contains(found.values):
            yield found.trial, found.values


@contextlib.contextmanager
def session(prepared: Prepared, *, command: str) -> Iterator[Session]:
    """Takes up a sweep, or begins it, for the length of a `with`; the ledger is put in order at its end.

    Args:
        prepared: from `prepare`.
        command: what the user typed, for the record.

    Raises:
        SweepError: it runs elsewhere.
        TaskError: the task's data cannot be had.
        ResultsError: its ledger or its storage do not serve.
    """
    spec = prepared.spec
    storage = folder_of(spec)
    ledger = Ledger(storage)
    # What task, searcher and scheduler cannot do is told before anything is written.
    asked(spec.task, prepared.task, "data", otherwise=None)
    first_rung(prepared, prepared.space.defaults())
    lessons = warm_start.lessons(spec, storage, prepared.schema)
    searcher, scheduler = make_searcher(prepared, lessons), make_scheduler(prepared)
    former = stopping.as_written(storage)
    with terminable(), Lock(storage) as lock:
        stopping.withdraw(storage, former)
        for part in ledger.quarantine():
            _log.warning("a part of the ledger cannot be read and was put aside: %s", part)
        if spec.warm_start and not storage.exists(SPEC_FILE):
            warm_start.keep(storage, lessons)
        document = sweep_file.document(spec)
        storage.write(SPEC_FILE, (json.dumps(document, indent=1) + "\n").encode())
        number = ledger.last_session + 1
        writer = Writer(storage, prepared.schema, session=number, next_seq=ledger.last_seq + 1)
        conductor = make_conductor(
            prepared,
            writer,
            session=number,
            concurrency=max(1, spec.concurrency),
            searcher=searcher,
            scheduler=scheduler,
        )
        conductor.replay(ledger.events())
        conductor.call_back = lambda reason: stopping.request_for_budget(storage, reason)
        conductor.saved.update(_saved(prepared, storage, conductor.state))
        row = environment.session_row(spec, document, prepared.task, session=number, command=command)
        conductor.note("sessions", row)
        conductor.flush(patiently=False)
        yield Session(
            number=number, row=row, prepared=prepared, storage=storage, conductor=conductor, writer=writer, lock=lock
        )
        ledger.compact()


def run(
    spec: SweepSpec,
    *,
    go_on: bool = False,
    extend: bool = False,
    final: bool = True,
    command: str = "search run",
    address: str | None = None,
    dashboard: bool = True,
    watch: Watch | None = None,
    tell_final: Mapping[str, Any] | None = None,
) -> Ending:
    """Runs a sweep until it is over or is stopped, and then its final job.

    Args:
        spec: what it is asked to do.
        go_on: take up the sweep of this name if it has begun; otherwise that is refused.
        extend: go on beyond its end: trials that completed fewer epochs than there are now go on too.
        final: whether to run the final job, if the sweep asks for one.
        command: what the user typed, for the record.
        address: of a Ray cluster; None starts one on this machine.
        dashboard: whether to start Ray's dashboard with it.
        watch: see `Watch`.
        tell_final: what the final job calls to tell how far it is, `on_epoch`, `on_training` and `say` of `FinalJob`.

    Raises:
        CallerError: nothing was started.
        SweepAborted: it had to end; what the ledger has stays.
    """
    prepared = prepare(spec)
    _check_begun(prepared, go_on=go_on or extend, extend=extend)
    if final and prepared.spec.final.models:
        final_sources(prepared)  # what cannot be ranked together is told before anything is trained
    with notifying(spec) as notifier, session(prepared, command=command) as taken:
        conductor = taken.conductor
        notifier.state, notifier.storage = conductor.state, taken.storage
        summary = None
        with Connecting(spec, address=address, dashboard=dashboard) as crew:
            if not conductor.is_finished():
                url = crew.connect()
                with (watch or _unwatched)(conductor) as watcher:
                    conductor.listeners.append(watcher.event)
                    if url:
                        watcher.note(f"dashboard: http://{url}")
                    _run_trials(taken, watcher)
            conductor.close()
            if not conductor.stopping and (spent := conductor.budget.spent()):
                notifier.tell("budget", spent)
            why = _why_unfinished(conductor)
            with contextlib.suppress(StorageError):
                Retention(taken.storage, spec.checkpoints).apply(conductor.state)
            if final and spec.final.models and not conductor.stopping and conductor.state.ranked():
                try:
                    summary = run_final(taken, crew, command=command, **(tell_final or {}))
                except SweepStopped:
                    conductor.stopping, why = True, "its final job was stopped"
    notifier.ended(is_finished=not conductor.stopping, why=why, final=summary)
    return Ending(finished=not conductor.stopping, why=why, state=conductor.state, storage=taken.storage, final=summary)


def _why_unfinished(conductor: Conductor) -> str:
    if not conductor.state.unfinished:
        return ""
    return "stopped" if conductor.stopping else conductor.budget.spent() or ""


def _run_trials(taken: Session, watcher: Watcher) -> None:
    from search import tune

    conductor, spec = taken.conductor, taken.prepared.spec
    _fit(conductor)

    def stop() -> bool:
        if conductor.stopping:
            return False
        conductor.stopping = True
        with contextlib.suppress(Exception):
            stopping.request(taken.storage)
        watcher.note("finishing the epochs that run, then saving; once more stops at once")
        return True

    try:
        with finishing(stop):
            tune.run(
                conductor,
                storage=taken.storage,
                worker=worker_options(spec, taken.storage),
                on_beat=_Beat(taken, watcher),
            )
    except KeyboardInterrupt:
        conductor.close()
        raise
    conductor.stopping = conductor.stopping or _is_stopped(taken.storage)


def _is_stopped(storage: Storage) -> bool:
    """Returns whether a user has asked for an end just now; waits for a storage that is away."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return stopping.is_requested(storage, "user")
        except StorageError as error:
            if time.monotonic() >= until:
                raise SweepAborted(f"the storage has been away for {PATIENCE_S:.0f} s: {error}") from error
            time.sleep(POLL_S)


def _fit(conductor: Conductor) -> None:
    """Lets as many trials run as fit into the cluster, whose machines come and go; unless the sweep says how many."""
    spec = conductor.spec
    if not spec.concurrency:
        conductor.concurrency = room(spec.resources)


def final_sources(prepared: Prepared) -> list[Source]:
    """Returns the other sweeps whose trials the final job takes into account.

    Raises:
        SweepError: one cannot be ranked together with this sweep.
    """

    def located(where: str) -> tuple[Storage, SweepSpec]:
        storage = find(where)
        return storage, read_spec(storage)

    return other_sources(prepared.spec, prepared.task, prepared.schema.objectives[0], located)


def run_final(taken: Session, crew: Crew, *, command: str, **told: Any) -> FinalSummary:
    """Runs a sweep's final job; see `search.final_job.FinalJob`."""
    spec = taken.prepared.spec
    job = FinalJob(
        spec=spec,
        state=taken.conductor.state,
        writer=taken.writer,
        storage=taken.storage,
        task=taken.prepared.task,
        space=taken.prepared.space,
        sources=final_sources(taken.prepared),
        crew=crew,
        command=command,
        environment=environment.of_session(taken.row),
        check=taken.lock.check,
        **told,
    )
    summary = job.run()
    taken.conductor.flush(patiently=False)
    return summary


@contextlib.contextmanager
def _unwatched(conductor: Conductor) -> Iterator[Watcher]:
    yield Quiet()


def _check_begun(prepared: Prepared, *, go_on: bool, extend: bool) -> None:
    storage = folder_of(prepared.spec)
    ledger = Ledger(storage)
    if not storage.exists(SPEC_FILE):
        if extend:
            raise SweepError(f"no sweep at {storage.uri} to extend; `search run FILE` begins one")
        return
    name, place = prepared.spec.name, typed(storage)
    if not go_on:
        held = held_by(storage, on_wait=_log.warning)
        if held is not None:
            raise SweepError(
                f"the sweep {name!r} runs already at {storage.uri}: {held}; `search status {place}` shows how it "
                "stands, and another `name` or `storage` in the file begins a new one"
            )
        raise SweepError(
            f"the sweep {name!r} has begun at {storage.uri}; `search resume {place}` goes on with it, "
            f"`search extend {place}` gives it more, and another `name` or `storage` in the file begins a new one"
        )
    # It was found where this one would lie; a folder may be called `runs` here and by its whole path there.
    before = dataclasses.replace(read_spec(storage), storage=prepared.spec.storage)
    sweep_file.check_resumable(before, prepared.spec, extend=extend)
    if ledger.exists and ledger.schema.to_json() != prepared.schema.to_json():
        raise TaskError(
            f"the task {prepared.spec.task} no longer has the parameters or metrics that the sweep {name!r} was "
            "begun with; use the code it was begun with, or begin a new sweep with `warm_start` from this one"
        )
    if ledger.exists and (theirs := other_data(ledger, prepared.spec, prepared.task)):
        raise TaskError(f"the sweep {name!r} {theirs}: bring back the data that it had, or begin a new sweep")


def worker_options(spec: SweepSpec, storage: Storage) -> dict[str, Any]:
    """Returns what `search.trial.Worker` is made with for this sweep."""
    return {
        "storage": str(Path(storage.uri).absolute()) if storage.is_local else storage.uri,
        "task": spec.task,
        "options": dict(spec.options),
        "folder": str(Path(spec.folder).absolute()),
        "memory_limit_mb": spec.resources.memory_limit_bytes / 1e6,
    }


class _Beat:
    """What is due now and then while a sweep runs, beside the conductor's own."""

    def __init__(self, taken: Session, watcher: Watcher):
        self._conductor, self._storage, self._lock, self._watcher = taken.conductor, taken.storage, taken.lock, watcher
        self._retention = Retention(taken.storage, taken.prepared.spec.checkpoints)
        self._polled = self._retained = self._fitted = time.monotonic()

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._polled >= POLL_S:
            self._polled = now
            self._lock.check()
            with contextlib.suppress(StorageError):  # the conductor's flush sees to a storage that is away
                if stopping.is_requested(self._storage, "user"):
                    self._conductor.stopping = True
                elif self._conductor.stopping:
                    stopping.request(self._storage)  # the storage was away when Ctrl-C came: workers do not know yet
        if now - self._retained >= RETENTION_S:
            self._retained = now
            self._conductor.flush()
            if self._conductor.is_written:  # what is not may happen otherwise once more, and needs its checkpoints
                with contextlib.suppress(StorageError):
                    self._retention.apply(self._conductor.state)
        if now - self._fitted >= FIT_S:
            self._fitted = now
            _fit(self._conductor)
        self._watcher.tick()


def changed(spec: SweepSpec, changes: Mapping[str, Any]) -> SweepSpec:
    """Returns the spec with some fields of `[sweep]` changed; those that are None stay."""
    return dataclasses.replace(spec, **{name: value for name, value in changes.items() if value is not None})
