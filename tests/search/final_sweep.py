"""A finished sweep whose final job tests run, and a crew that dies at it."""

import json
from pathlib import Path
from typing import Any

from results.ledger import Ledger, Writer
from results.schema import Parameter, SweepSchema
from results.storage import Storage
from search.crews import Here
from search.final_job import FinalJob
from search.spec import CheckpointSettings, FinalSettings, Objective, SweepSpec
from search.state import SweepState
from search.task import declared, load_task

TASKS = Path(__file__).parent / "final_task.py"


class Sweep:
    """A finished sweep in a folder, and its final job as a new process would run it."""

    def __init__(
        self, folder, trials, *, task="Numbers", name="toy", objective=("loss", "min"), parameter="rate", **options
    ):
        self.storage, self.log, self.name = Storage(folder / name), folder / "log", name
        self.objective = Objective(metric=objective[0], goal=objective[1])
        self.log.mkdir(parents=True, exist_ok=True)
        self.task, self.options = f"{TASKS}:{task}", {"log": str(self.log), **options}
        made = load_task(self.task, self.options)
        self.schema = SweepSchema(
            sweep=name,
            parameters={parameter: Parameter("float")},
            metrics=declared(self.task, made),
            scores=declared(self.task, made, "scores"),
            measures=declared(self.task, made, "measures"),
            objectives=(objective,),
        )
        writer = Writer(self.storage, self.schema, session=1, next_seq=0)
        data = dict(zip(("data", "data_fingerprint"), made.data() if hasattr(made, "data") else ("", ""), strict=True))
        writer.append("sessions", {"session": 1, **data})
        self.write(writer, trials, objective, parameter)

    def write(self, writer, trials, objective=("loss", "min"), parameter="rate", first=0):
        """Writes trials that have ended, each with its rate, its state and the loss of its one epoch."""
        for number, (rate, state, loss) in enumerate(trials, first):
            config = {f"config.{parameter}": rate}
            writer.append("proposals", {"trial": number, "origin": "searcher", "seed": 7, "bracket": 0, **config})
            writer.append("attempts", {"trial": number, "attempt": 1, "cause": "first", "cpus": 1.0, "gpus": 0.0})
            reached = {"loss": loss} | ({objective[0]: 1 - loss / 3} if objective[1] == "max" else {})
            writer.append("epochs", {"trial": number, "attempt": 1, "epoch": 1, "duration_s": 0.1, **reached})
            writer.append("trials", {"trial": number, "state": state, "seed": 7, "attempts": 1, "epochs": 1, **config})
        writer.flush()

    def resumed(self, trials, **data):
        """Adds trials of another session, with other data."""
        ledger = Ledger(self.storage)
        session = ledger.last_session + 1
        writer = Writer(self.storage, self.schema, session=session, next_seq=ledger.last_seq + 1)
        writer.append("sessions", {"session": session, **data})
        self.write(writer, trials, first=len(self.state().trials))

    def made(self):
        return load_task(self.task, self.options)

    def card(self):
        return json.loads(self.storage.read("bundle/card.json"))

    def state(self):
        return SweepState(self.schema).replay(Ledger(self.storage).events())

    def spec(self, *, options=None, **final: Any):
        settings: dict[str, Any] = {"models": 2, "seeds": 2} | final
        return SweepSpec(
            name=self.name,
            task=self.task,
            objectives=(self.objective,),
            trials=4,
            epochs=3,
            storage=str(Path(self.storage.uri).parent),
            options=self.options | (options or {}),
            checkpoints=CheckpointSettings(every_s=1e-6),
            final=FinalSettings(**settings),
        )

    def job(self, *, crew=None, options=None, say=None, sources=(), environment=None, **final: Any):
        spec = self.spec(options=options, **final)
        ledger = Ledger(self.storage)
        session, seq = ledger.last_session + 1, ledger.last_seq + 1
        writer = Writer(self.storage, self.schema, session=session, next_seq=seq)
        job = FinalJob(
            spec=spec,
            state=self.state(),
            writer=writer,
            storage=self.storage,
            task=load_task(self.task, spec.options),
            crew=crew or Here(),
            sources=sources,
            environment=environment or {"python": "3.11"},
            say=say or (lambda text: None),
        )
        job.note("sessions", {"session": session, **(environment or {})})
        return job

    def table(self, name):
        key = name.removesuffix("s")
        return sorted(Ledger(self.storage).table(name).to_pylist(), key=lambda row: row[key])

    def marks(self, what):
        return sorted(path.name.rpartition("-")[0] for path in self.log.glob(f"{what}*"))


class Dies(Exception):
    """Stands for the driver's end."""


class Mortal:
    """A crew whose driver dies after so many messages, and that may finish the last piece of work first."""

    def __init__(self, messages, width=1, backwards=False):
        self.left, self._width, self._backwards = messages, width, backwards

    def width(self):
        return self._width

    def run(self, work, arguments):
        places = list(range(len(arguments)))
        if self._backwards:
            places.reverse()
        for place, message in Here().run(work, [arguments[place] for place in places]):
            if not self.left:
                raise Dies
            self.left -= 1
            yield places[place], message
