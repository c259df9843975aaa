"""The final job: the best configurations of a sweep are trained anew, one model is chosen, and only that is tested.

The best of many noisy scores is partly luck, so nothing of the sweep's own trainings is used but their configurations.
The job can be interrupted anywhere and begun again: what the ledger has is not done a second time, and a training that
had begun goes on from its checkpoint.
"""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from results.choices import Choice
from results.ledger import Ledger
from results.opening import typed
from results.storage import Storage
from search import bundle, final_ensemble, final_racing
from search.crews import Crew
from search.errors import SweepAborted, SweepError
from search.final_book import FinalBook
from search.final_candidates import Candidate, Source, candidates, check_data, key_of
from search.final_choice import Way, choose, written
from search.final_models import measure
from search.final_production import Chosen, Production
from search.final_summary import FinalSummary
from search.final_trainings import SINGLE, WHOLE, FinalTrainingDone, OnEpoch, Planned, Trainings, stop_if_asked
from search.origins import Data, other_data
from search.space import Space
from search.spec import SweepSpec
from search.state import SweepState
from search.task import VALID, check_final, costs

_log = logging.getLogger(__name__)


class FinalJob:
    """The final job of one sweep."""

    def __init__(
        self,
        *,
        spec: SweepSpec,
        state: SweepState,
        writer: Any,
        storage: Storage,
        task: Any,
        crew: Crew,
        space: Space | None = None,
        sources: Sequence[Source] = (),
        command: str = "search final",
        on_epoch: OnEpoch | None = None,
        on_training: Callable[[FinalTrainingDone], None] | None = None,
        say: Callable[[str], None] = _log.info,
        environment: Mapping[str, Any] | None = None,
        check: Callable[[], None] = lambda: None,
    ):
        """Takes what it works with.

        Args:
            spec: of the sweep.
            state: what the sweep has come to; rows are added to it as they are written.
            writer: a `results.ledger.Writer`, or what takes rows as it does.
            storage: of the sweep.
            task: only asked what it can do, and for its data: the work is the crew's.
            crew: trains, scores and samples.
            space: of the sweep; None to ask the task for it.
            sources: other sweeps whose trials are candidates too, see `search.final_candidates.other_sources`.
            command: what the user typed, for the record.
            on_epoch: see `OnEpoch`.
            on_training: called after each final training.
            say: told what a person at the terminal should know.
            environment: python, packages, commit and backend, for the model's card.
            check: called before anything is written down; raises if another process has taken over the sweep.
        """
        self._spec, self._state, self._storage, self._task, self._crew = spec, state, storage, task, crew
        data = Data.of_task(task)
        self._sources = (Source("", state, other_data(Ledger(storage), state, data.fingerprint)), *sources)
        # What other sweeps tried may lie outside of what this one was narrowed to.
        self._space = Space.explore(task.space) if sources else space or Space.explore(task.space).narrowed(spec.space)
        self._say = say
        self._sign = -1.0 if state.goal == "max" else 1.0
        self._book = FinalBook(state, writer, data, check)
        self._trainings = Trainings(
            spec=spec, book=self._book, storage=storage, crew=crew, on_epoch=on_epoch, on_training=on_training
        )
        self._place = self._trainings.place
        self._production = Production(
            spec=spec,
            book=self._book,
            storage=storage,
            task=task,
            crew=crew,
            place=self._place,
            command=command,
            environment=environment or {},
            say=say,
        )
        self.note = self._book.note

    def run(self) -> FinalSummary:
        """Does all that is still to be done and returns what came of it.

        Raises:
            SweepError: the sweep has no trial with a score on the data of today, or asks for no final job.
            TaskError: the task cannot do what is asked for.
            SweepAborted: no final training could be finished, or the chosen model could not be scored.
            SweepStopped: it was asked to stop, before the test split was opened.
        """
        check_final(self._spec, self._task)
        found = self._candidates()
        way = self._way()
        rows = self._train(found, way)
        choice = choose(self._state, rows, way, sources=self._sources)
        if choice is None:
            reasons = "; ".join(dict.fromkeys(row["reason"] for row in rows))
            raise SweepAborted(
                f"none of the {len(rows)} final trainings of sweep {self._spec.name!r} could be finished: {reasons}; "
                "the same command tries them again"
            )
        chosen = self._chosen(choice, found, rows)
        self._book.note_all([("choices", row) for row in written(self._state, chosen.choice)])
        stop_if_asked(self._storage)
        card = self._production.card(chosen)
        failed = sum(row["state"] == "failed" for row in rows)
        return self._summary(chosen, card, failed=failed, page=self._write_page())

    # --- training anew ------------------------------------------------------------------------------------------------

    def _candidates(self) -> list[Candidate]:
        name, final = self._spec.name, self._spec.final
        if not final.models:
            raise SweepError(f"sweep {name!r} asks for no final job ([final] models = 0); ask for one with --models 1")
        check_data(name, self._sources, self._book.data, self._say)
        found = candidates(self._sources, self._space, final.models, least=final.apart)
        those = "the sweep has" if len(self._sources) == 1 else f"the {len(self._sources)} sweeps have"
        if not found:
            raise SweepError(
                f"sweep {name!r} has no trial with a finite {self._state.objective}, so there is nothing to choose "
                f"from; `search status {typed(self._storage)}` says what became of its trials"
            )
        if len(found) < final.models:
            self._say(
                f"{final.models} configurations were asked for; {those} {len(found)} with a finite "
                f"{self._state.objective} that are far enough apart (apart = {final.apart:g} of [final])."
            )
        return found

    def _way(self) -> Way:
        final = self._spec.final
        return Way(
            split=VALID,
            rule=final.rule,
            costs=costs(self._spec.task, self._task, self._state.schema.metrics, final.costs),
            as_in_sweep=self._trainings.epochs == self._spec.epochs,
            seed=self._spec.seed,
        )

    def _train(self, found: Sequence[Candidate], way: Way) -> list[dict[str, Any]]:
        """Returns the rows of all trainings that the choice is made by."""
        final = self._spec.final
        rows = self._trainings.run(
            [self._trainings.planned(candidate, index) for candidate in found for index in range(final.seeds)]
        )
        self._score_pieces(rows)
        return final_racing.race(
            rows,
            found,
            trainings=self._trainings,
            book=self._book,
            final=final,
            way=way,
            width=self._crew.width,
            score_pieces=self._score_pieces,
            say=self._say,
        )

    def _score_pieces(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Scores the models on each piece of the validation split, those that have not been, if the task can."""
        if not hasattr(self._task, "score_pieces"):
            return
        left = [row for row in rows if row["model"] and not self._state.piece_scores(row["final"], VALID)]
        work = [((self._place,), {"model": row["model"], "split": VALID}) for row in left]
        for index, message in self._crew.run(measure, work):
            if "failed" in message:
                self._say(
                    f"The pieces of final training {left[index]['final']} could not be scored: {message['failed']}; "
                    "the models are compared by their seeds alone."
                )
            else:
                self._book.write_pieces(left[index]["final"], VALID, message["result"]["pieces"])

    # --- choosing -----------------------------------------------------------------------------------------------------

    def _chosen(self, choice: Choice, found: Sequence[Candidate], rows: Sequence[dict[str, Any]]) -> Chosen:
        """Returns the model to take, and what stands beside it; makes ensemble and whole model, if they are wanted."""
        best = {contender.key: self._best(contender.key, rows) for contender in choice.contenders}
        winner = choice.winner
        row: Mapping[str, Any] = best[winner.key]
        tied = [best[each.key] for each in choice.contenders if each.tied and each.key != winner.key]
        ensemble = None
        if self._spec.final.ensemble != "none":
            made = final_ensemble.make(
                self._members(row, tied, rows),
                book=self._book,
                crew=self._crew,
                place=self._place,
                costs=[name for name, _ in self._way().costs],
                seed=self._spec.seed,
                say=self._say,
            )
            if made is not None and made[1].better:
                row = made[0]
            ensemble = None if made is None else made[1]
        whole = self._whole(row, found) if self._spec.final.whole else None
        choice = dataclasses.replace(choice, final=row["final"])
        return Chosen(row=row, whole=whole, tied=tied, choice=choice, ensemble=ensemble)

    def _best(self, key: Any, rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
        mine = [row for row in rows if key_of(row) == key and row["state"] == "completed"]
        return min(mine, key=lambda row: self._sign * row[self._state.objective])

    def _members(
        self, row: Mapping[str, Any], tied: Sequence[Mapping[str, Any]], rows: Iterable[Mapping[str, Any]]
    ) -> list[Mapping[str, Any]]:
        """The models that an ensemble is made of, the chosen one first."""
        if self._spec.final.ensemble == "tied":
            return [row, *tied]
        others = (r for r in rows if key_of(r) == key_of(row) and r["state"] == "completed")
        return [row, *(other for other in others if other["final"] != row["final"])]

    def _whole(self, row: Mapping[str, Any], found: Sequence[Candidate]) -> dict[str, Any]:
        """The row of the chosen configuration trained on train and valid, for as many epochs as were best for it."""
        candidate = next(each for each in found if each.key == key_of(row))
        planned = Planned(candidate=candidate, seed=row["seed"], kind=WHOLE, until=row["best_epoch"])
        [whole] = self._trainings.run([planned])
        if whole["state"] != "completed":
            raise SweepAborted(
                f"the chosen configuration could not be trained on train and valid: {whole['reason']}; "
                f"`search final {typed(self._storage)}` tries again, and without `whole` it ships the model that was "
                "chosen"
            )
        return whole

    # --- telling ------------------------------------------------------------------------------------------------------

    def _write_page(self) -> str:
        """Writes the page that a person decides on, and returns its address; "" if it could not be made."""
        from results import report

        try:
            return report.write(self._storage)
        except Exception as error:  # noqa: BLE001 - hours of work lie in the bundle; a page can be made again
            _log.debug("the page could not be made", exc_info=True)
            self._say(
                f"The page could not be made ({type(error).__name__}: {error}); all else is done. "
                f"`results report {self._storage.uri}` tries it again."
            )
            return ""

    def _summary(self, chosen: Chosen, card: Mapping[str, Any], *, failed: int, page: str) -> FinalSummary:
        row = chosen.row
        place = self._storage.where(bundle.FOLDER) if row["model"] else ""
        shipped = {each["model"] for each in self._state.finals if each.get("kind") == WHOLE}
        return FinalSummary(
            sweep=self._spec.name,
            objective=self._state.objective,
            goal=self._state.goal,
            choice=chosen.choice,
            kind=row.get("kind") or SINGLE,
            ensemble=chosen.ensemble,
            final=row["final"],
            seed=row["seed"],
            failed=failed,
            data=self._book.data[0],
            scores=card["chosen"]["scores"] if chosen.whole else card["scores"],
            whole_scores=card["scores"] if chosen.whole else {},
            units={name: measure.unit for name, measure in self._state.schema.scores.items()},
            floors=card["floors"],
            openings=len(self._state.openings),
            openings_to_ship=sum(opening["model"] in shipped for opening in self._state.openings),
            samples=tuple(self._storage.where(sample["path"]) for sample in card["samples"]),
            bundle=place,
            page=page,
            ledger=self._storage.where("ledger"),
            next_steps=(
                *(self._task.next_steps(place) if place and hasattr(self._task, "next_steps") else ()),
                f"results top {typed(self._storage)}",
            ),
        )
