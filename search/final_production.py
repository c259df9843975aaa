"""What the final job makes of its choice: the test split is opened, models produce samples, the bundle is written."""

import dataclasses
import getpass
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from results.choices import Choice
from results.ledger import Ledger
from results.opening import typed
from results.storage import Storage
from search import bundle
from search.crews import Crew
from search.environment import of_session
from search.errors import SweepAborted
from search.final_book import FinalBook
from search.final_ensemble import Ensemble
from search.final_models import rehearse, sample, score
from search.final_trainings import ENSEMBLE, SINGLE, WHOLE, stop_if_asked
from search.final_work import FOLDER, Place
from search.origins import trained_in
from search.spec import SweepSpec
from search.task import TEST, VALID


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chosen:
    """What a final job has chosen.

    Attributes:
        row: of `finals`: the model that was chosen, a single one or an ensemble.
        whole: the row of the one that is shipped in its place, trained on train and valid; None if there is none.
        tied: rows of the models that may be as good, one a configuration; without the chosen one.
        choice: how configurations compare.
        ensemble: how an ensemble compares; None if there is none.
    """

    row: Mapping[str, Any]
    whole: Mapping[str, Any] | None
    tied: Sequence[Mapping[str, Any]]
    choice: Choice
    ensemble: Ensemble | None

    @property
    def shipped(self) -> Mapping[str, Any]:
        """The row of the model that is in the bundle."""
        return self.whole or self.row


class Production:
    """Tests the chosen model, lets it and those tied with it produce samples, and writes the bundle."""

    def __init__(
        self,
        *,
        spec: SweepSpec,
        book: FinalBook,
        storage: Storage,
        task: Any,
        crew: Crew,
        place: Place,
        command: str,
        environment: Mapping[str, Any],
        say: Callable[[str], None],
    ):
        """Takes what it works with; see `search.final_job.FinalJob`."""
        self._spec, self._book, self._storage, self._task = spec, book, storage, task
        self._crew, self._place, self._command, self._say = crew, place, command, say
        self._environment = dict(environment)
        self._count = spec.final.samples if hasattr(task, "samples") else 0

    def card(self, chosen: Chosen) -> dict[str, Any]:
        """Returns the card of what was chosen, after all that is not done yet has been.

        Raises:
            SweepAborted: the model could not be scored or heard.
            SweepStopped: it was asked to stop, before the test split was opened.
        """
        card = bundle.read_card(self._storage)
        if card is not None and card.get("sample_count", self._count) != self._count:
            self._book.lose_samples(f"{FOLDER}/samples")
            self._storage.child(FOLDER).remove("samples")
        elif card is not None and _is_of(card, chosen):
            self._sample(chosen, shipped=False)
            return bundle.reword(self._storage, card, self._comparison(chosen))
        if not chosen.row["model"]:
            self._book.choose(chosen.row, {})
            return bundle.card(self._about(chosen), scores={}, floors={}, samples=[])
        bundle.begin(self._storage)
        self._book.lose_samples(bundle.FOLDER)
        scores, floors = self._score(chosen.row, choose=True)
        about = self._about(chosen)
        if chosen.whole is not None:
            about |= self._about_whole(chosen, scores)
            scores, floors = self._score(chosen.whole, choose=False)
        made = self._sample(chosen, shipped=True)
        about |= {"sample_references": made["references"], "sample_count": self._count}
        card = bundle.card(about, scores=scores, floors=floors, samples=made["samples"])
        bundle.write(self._storage, chosen.shipped["model"], card, made["files"])
        return card

    # --- the test split -----------------------------------------------------------------------------------------------

    def _score(self, row: Mapping[str, Any], *, choose: bool) -> tuple[dict[str, float], dict[str, Any]]:
        """Returns what a model scores on the test split, and what models without training do; opens it if need be."""
        known = self._book.score(row["final"], self._book.state.schema.scores)
        split = TEST if hasattr(self._task, "score") and not known else ""
        if split:
            if row.get("kind") != WHOLE:  # that one has seen valid, and the chosen model was scored before it
                self._rehearse(row)
                stop_if_asked(self._storage)
            self._open(row)
        work = {"model": row["model"], "split": split, "stored": known}
        for _, message in self._crew.run(score, [((self._place,), work)]):
            if "scored" in message:
                if choose:
                    self._book.choose(row, message["scores"], message["pieces"])
                elif split:
                    self._book.write_test(row, message["scores"], message["pieces"])
            elif "failed" in message:
                raise self._unheard(row, message)
            elif "result" in message:
                return dict(message["result"]["scores"]), dict(message["result"]["floors"])
        raise SweepAborted("the work on the chosen model ended without a word; the same command tries again")

    def _rehearse(self, row: Mapping[str, Any]) -> None:
        """Scores a model on valid, so that a task that cannot score it is found out while the test split is closed."""
        for _, message in self._crew.run(rehearse, [((self._place,), {"model": row["model"]})]):
            if "failed" in message:
                raise self._unheard(row, message)

    def _unheard(self, row: Mapping[str, Any], message: Mapping[str, Any]) -> SweepAborted:
        return SweepAborted(
            f"the chosen model ({row['model']}) could not be scored or heard: {message['failed']}; "
            f"`search final {typed(self._storage)}` tries again"
        )

    def _open(self, row: Mapping[str, Any]) -> None:
        """Notes that the test split is opened for a model, and says so if it was opened before."""
        model, fingerprint = row["model"], self._book.data[1]
        before = [
            opening["model"]
            for opening in self._book.state.openings
            if (opening["split"], opening["data_fingerprint"]) == (TEST, fingerprint)
        ]
        if model in before:
            self._say(
                f"The test split was opened for {model} before, but its scores were never written down; it is scored "
                "again, and this counts as the same opening."
            )
            return
        if row.get("kind") == WHOLE:
            self._say(
                f"The test split is opened once more, for {model}: the chosen configuration trained on train and "
                "valid. Nothing is chosen by its score."
            )
        elif before:
            self._say(
                f"The test split is opened again: in this sweep it was opened for {', '.join(before)}, and now it is "
                f"for {model}. A choice that changes after a look at the test split makes its score flatter the model."
            )
        self._book.note(
            "openings",
            {
                "opening": 1 + max((opening["opening"] for opening in self._book.state.openings), default=-1),
                "who": f"{_user()}@{platform.node()}",
                "command": self._command,
                "split": TEST,
                "model": model,
                "data": self._book.data[0],
                "data_fingerprint": fingerprint,
            },
        )

    # --- samples ------------------------------------------------------------------------------------------------------

    def _sample(self, chosen: Chosen, *, shipped: bool) -> dict[str, Any]:
        """Lets the shipped model (if asked) and those tied with the chosen one produce samples, side by side.

        Returns what came of the shipped one: `samples`, `files` and `references`.
        """
        heard = {
            row["final"]
            for row in self._book.state.samples
            if (row["path"] or "").startswith(f"{FOLDER}/samples/{row['final']:05d}/")
        }
        rows = [chosen.shipped] * shipped
        if self._count:
            rows += [row for row in chosen.tied if row["model"] and row["final"] not in heard]
        work = []
        for place, row in enumerate(rows):
            own = shipped and place == 0
            out = bundle.SAMPLES if own else f"{FOLDER}/samples/{row['final']:05d}"
            given = {"model": row["model"], "out": out, "count": self._count, "split": TEST if own else VALID}
            work.append(((self._place,), given))
        found: dict[str, Any] = {"samples": [], "files": {}, "references": {}}
        for place, message in self._crew.run(sample, work):
            row, own = rows[place], shipped and place == 0
            if "failed" in message:
                if own:
                    raise self._unheard(row, message)
                self._say(f"Final {row['final']}, which is tied, could not be heard: {message['failed']}")
            elif "result" in message:
                self._book.write_samples(row["final"], message["result"]["samples"])
                if own:
                    found = dict(message["result"])
        return found

    # --- the card -----------------------------------------------------------------------------------------------------

    def _about(self, chosen: Chosen) -> dict[str, Any]:
        """What the card says of where the model comes from."""
        row, state = chosen.row, self._book.state
        return {
            "kind": row.get("kind") or SINGLE,
            "sweep": self._spec.name,
            "source": row.get("source") or "",
            "task": self._spec.task,
            "options": dict(self._spec.options),
            "trial": row["trial"],
            "final": row["final"],
            "shipped": chosen.shipped["final"],
            "configuration": {name[7:]: value for name, value in row.items() if name.startswith("config.")},
            "seed": row["seed"],
            "epochs": row.get("epochs"),
            "best_epoch": row.get("best_epoch"),
            "objective": state.objective,
            "goal": state.goal,
            "metrics": {name: row[name] for name in state.schema.metrics if row.get(name) is not None},
            "data": {"name": self._book.data[0], "fingerprint": self._book.data[1]},
            **self._environments(chosen),
            **self._comparison(chosen),
            **bundle.facts(self._task, self._spec),
        }

    def _environments(self, chosen: Chosen) -> dict[str, dict[str, str]]:
        """What trained the shipped model, of an ensemble its first member, and what packaged it if that differs."""
        ensemble = chosen.shipped.get("kind") == ENSEMBLE and chosen.ensemble
        final = ensemble.members[0] if ensemble else chosen.shipped["final"]
        session = trained_in(Ledger(self._storage), self._book.state, final)
        return bundle.environments(of_session(session), self._environment)

    def _comparison(self, chosen: Chosen) -> dict[str, Any]:
        """What the card says of how the model was chosen."""
        compared = [dataclasses.asdict(each) | {"mean": each.mean} for each in chosen.choice.contenders]
        choice = {name: getattr(chosen.choice, name) for name in ("rule", "over", "seed_sd")}
        ensemble = None
        if chosen.ensemble is not None:
            members = [row for row in self._book.state.finals if row["final"] in chosen.ensemble.members]
            ensemble = dataclasses.asdict(chosen.ensemble) | {
                "models": [{name: row.get(name) for name in ("final", "source", "trial", "seed")} for row in members]
            }
        return {"compared": compared, "choice": choice} | ({"ensemble": ensemble} if ensemble else {})

    def _about_whole(self, chosen: Chosen, scores: Mapping[str, float]) -> dict[str, Any]:
        """What the card says otherwise if the shipped model is not the one that was chosen and scored."""
        assert chosen.whole is not None
        row, whole = chosen.row, chosen.whole
        metrics = {name: row[name] for name in self._book.state.schema.metrics if row.get(name) is not None}
        return {
            "kind": WHOLE,
            "seed": whole["seed"],
            "epochs": whole["epochs"],
            "best_epoch": whole["best_epoch"],
            "metrics": {},
            "chosen": {
                "final": row["final"],
                "seed": row["seed"],
                "best_epoch": row["best_epoch"],
                "metrics": metrics,
                "scores": dict(scores),
            },
        }


def _is_of(card: Mapping[str, Any], chosen: Chosen) -> bool:
    """Whether a card is that of what was chosen."""
    return (card["final"], card.get("shipped", card["final"])) == (chosen.row["final"], chosen.shipped["final"])


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"
