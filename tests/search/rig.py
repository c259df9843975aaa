"""A sweep without Ray: the real session, searcher, scheduler, ledger and workers, pumped by hand in one process."""

import contextlib
import random
from pathlib import Path

from search import preparation, stopping, sweep
from search.spec import CheckpointSettings, FinalSettings, Objective, SchedulerSettings, SearcherSettings, SweepSpec
from search.trial import Worker

FAKES = Path(__file__).parent / "fake_task.py"


def spec(storage, *, task="FakeTask", **changes):
    """A small sweep of a fake task."""
    given = {
        "name": "rig",
        "task": f"{FAKES}:{task}",
        "objectives": (Objective(metric="loss", goal="min"),),
        "trials": 12,
        "epochs": 9,
        "seed": 4,
        "storage": str(storage),
        "searcher": SearcherSettings(kind="random"),
        "scheduler": SchedulerSettings(kind="asha", audit_share=0.1),
        "checkpoints": CheckpointSettings(every_s=1e-6),
        "final": FinalSettings(models=0),
    }
    return SweepSpec(**given | changes)


class Killed(BaseException):
    """Stands for the driver's SIGKILL: nothing after it is run, nothing buffered is written."""


def run(given, *, workers=2, steps=None, stop_at=None, flush_every=3, order=0):
    """Pumps a sweep to its end, or to the driver's death after `steps` messages; returns its conductor.

    Args:
        given: the spec.
        workers: so many attempts at a time.
        steps: messages until the driver dies; None: it lives.
        stop_at: messages until somebody asks the sweep to stop; None: nobody does. The driver itself does not look.
        flush_every: messages from one flush to the next.
        order: seeds which of the workers speaks next.
    """
    draw = random.Random(order)
    prepared = preparation.prepare(given)
    with contextlib.suppress(Killed), _dying_session(prepared) as taken:
        conductor = taken.conductor
        conductor.concurrency = workers
        crew = {}
        said = 0
        made = []
        try:
            while True:
                while (attempt := conductor.next_attempt()) is not None:
                    worker = Worker(**sweep.worker_options(given, taken.storage))
                    made.append(worker)
                    worker.begin(attempt)
                    conductor.began(attempt.trial, attempt.attempt)
                    crew[attempt.trial] = (attempt, worker)
                if not crew:
                    if conductor.is_finished():
                        break
                    continue
                trial = draw.choice(sorted(crew))
                attempt, worker = crew[trial]
                progress = worker.step()
                said += 1
                if steps is not None and said > steps:
                    raise Killed
                if said == stop_at:
                    stopping.request(taken.storage)
                if not conductor.report(trial, attempt.attempt, progress):
                    del crew[trial]
                if said % flush_every == 0:
                    conductor.flush()
            conductor.close()
        finally:
            for worker in made:
                worker.close()
    return conductor


@contextlib.contextmanager
def _dying_session(prepared):
    """A session whose end is left out if the driver dies in it, all but its lock."""
    with sweep.session(prepared, command="a test") as taken:
        yield taken
