"""The final job of a sweep in a folder: found, locked, connected to Ray and run."""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import Any

from results.ledger import Ledger, Writer
from results.opening import typed
from results.storage import Storage
from search import environment, folders, preparation, stopping, sweep, sweep_file
from search.crews import Connecting
from search.errors import SweepError
from search.final_job import FinalJob
from search.final_summary import FinalSummary
from search.final_trainings import FinalTrainingDone, OnEpoch
from search.interrupts import terminable
from search.lock import Lock
from search.state import SweepState

_log = logging.getLogger(__name__)


def run(
    storage: Storage,
    *,
    models: int | None = None,
    seeds: int | None = None,
    epochs: int | None = None,
    samples: int | None = None,
    sweeps: Sequence[str] = (),
    racing: int | None = None,
    wall_time_s: float | None = None,
    whole: bool | None = None,
    ensemble: str | None = None,
    command: str = "search final",
    address: str | None = None,
    dashboard: bool = False,
    on_epoch: OnEpoch | None = None,
    on_training: Callable[[FinalTrainingDone], None] | None = None,
    say: Callable[[str], None] = _log.info,
) -> FinalSummary:
    """Trains the best configurations of a sweep anew, chooses one model, tests it, and writes its bundle.

    What an earlier call has done is not done again.

    Args:
        storage: the sweep's folder.
        models: how many configurations; None for what the sweep file says. So for the others.
        seeds: fresh seeds for each of them.
        epochs: of each training; 0 for as many as in the sweep.
        samples: pieces of each sort.
        sweeps: other sweeps whose trials are candidates too, beside those that the sweep file names.
        racing: trainings that may be added where the choice is not decided.
        wall_time_s: trainings may take so long before racing ends.
        whole: whether to train the chosen configuration on train and valid, to be shipped.
        ensemble: of what several models are made one.
        command: what the user typed, for the record.
        address: of a Ray cluster; None starts one on this machine, if there is anything to do.
        dashboard: whether to start Ray's dashboard with it.
        on_epoch: called after each epoch of a final training: its number, the epoch, the metrics.
        on_training: called after each final training.
        say: told what a person at the terminal should know.

    Raises:
        CallerError: there is no such sweep, it runs at this moment, or it has nothing to choose from.
        SweepAborted: the job had to end; the same call goes on with it.
    """
    spec = folders.read_spec(storage)
    given = {
        "models": models,
        "seeds": seeds,
        "epochs": epochs,
        "samples": samples,
        "sweeps": (*spec.final.sweeps, *(each for each in sweeps if each not in spec.final.sweeps)),
        "racing": racing,
        "wall_time_s": wall_time_s,
        "whole": whole,
        "ensemble": ensemble,
    }
    asked: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    spec = dataclasses.replace(spec, final=dataclasses.replace(spec.final, **asked))
    prepared = preparation.prepare(spec)
    sources = sweep.final_sources(prepared)
    ledger = Ledger(storage)
    if not ledger.exists:
        raise SweepError(f"the sweep at {storage.uri} has no ledger yet; `search resume {typed(storage)}` runs it")
    former = stopping.as_written(storage)
    with terminable(), Lock(storage) as lock, Connecting(spec, address=address, dashboard=dashboard) as crew:
        stopping.withdraw(storage, former)
        state = SweepState(ledger.schema).replay(ledger.events())
        if state.unfinished:
            say(
                f"{len(state.unfinished)} trials of this sweep have not ended; they count with what they have reached. "
                f"`search resume {typed(storage)}` would finish them first."
            )
        session = ledger.last_session + 1
        row = environment.session_row(spec, sweep_file.document(spec), prepared.task, session=session, command=command)
        job = FinalJob(
            spec=spec,
            state=state,
            writer=Writer(storage, ledger.schema, session=session, next_seq=ledger.last_seq + 1),
            storage=storage,
            task=prepared.task,
            space=prepared.space,
            sources=sources,
            crew=crew,
            command=command,
            on_epoch=on_epoch,
            on_training=on_training,
            say=say,
            environment=environment.of_session(row),
            check=lock.check,
        )
        job.note("sessions", row)
        summary = job.run()
        ledger.compact()
    return summary
