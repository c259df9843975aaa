"""What the page tells, gathered from the tables once."""

import contextlib
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from results import choices
from results.choices import Key, final_numbers, key_of, last
from results.choosing import Promise, earlier, length_of
from results.curves import Curve, curves
from results.errors import CallerError, LedgerError, ResultsError
from results.failures import Failure, failures
from results.importance import Importance, importances
from results.leaderboard import UNKNOWN_DATA, objective
from results.opening import UNFINISHED, Results
from results.schema import CONFIG, Measure
from results.statistics import difference

Row = Mapping[str, Any]
CARD = "bundle/card.json"
SETTINGS = "sweep.json"
SINGLE, WHOLE, ENSEMBLE = "single", "whole", "ensemble"
"""What a final model is: trained as in the sweep, on the validation part too, or several models as one."""
KINDS = {WHOLE: "train and valid", ENSEMBLE: "several models as one"}
FINAL_TABLES = ("finals", "piece_scores", "choices", "samples", "openings")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """One or several sweeps, as the page sees them.

    Attributes:
        results: the sweeps.
        metric: the first objective.
        goal: `min` or `max`.
        trials: rows of all trials with an `id`, those that have not ended too.
        ranked: those with a finite objective on the `data` below, the best first.
        data: name and fingerprint of the data that most ranked trials were scored on.
        elsewhere: how many trials with a value were scored on other data; they are ranked nowhere on the page.
        curves: of all trials.
        tables: rows of `sessions`, of `FINAL_TABLES`, and, with an `id`, of `attempts`, `attempt_ends` and `decisions`.
        cards: the card of each sweep's bundle, where there is one.
        settings: what each sweep was asked for, where it is known.
    """

    results: Results
    metric: str
    goal: str
    trials: Sequence[dict[str, Any]]
    ranked: Sequence[dict[str, Any]]
    data: tuple[str, str]
    elsewhere: int
    curves: Sequence[Curve]
    tables: Mapping[str, Sequence[dict[str, Any]]]
    cards: Mapping[str, dict[str, Any]]
    settings: Mapping[str, dict[str, Any]]

    @property
    def sign(self) -> int:
        """1 if less is better, -1 if more is: times a value, less is better."""
        return 1 if self.goal == "min" else -1

    @property
    def names(self) -> list[str]:
        """Names of the sweeps."""
        return [sweep.name for sweep in self.results.sweeps]

    def measure(self, name: str) -> Measure:
        """Returns what a metric, score or sample measure is; an empty one if nobody said."""
        for sweep in self.results.sweeps:
            for group in (sweep.schema.metrics, sweep.schema.scores, sweep.schema.measures):
                if name in group:
                    return group[name]
        return Measure()

    @cached_property
    def metrics(self) -> list[str]:
        """Names of what an epoch returns, the first objective first."""
        return list(dict.fromkeys([self.metric, *(n for s in self.results.sweeps for n in s.schema.metrics)]))

    @cached_property
    def varying(self) -> list[str]:
        """Parameters that not all trials have in common, without the `config.` of their columns."""
        names = [n for n in (self.trials[0] if self.trials else ()) if n.startswith(CONFIG)]
        return [n.removeprefix(CONFIG) for n in names if len({row[n] for row in self.trials} - {None}) > 1]

    @cached_property
    def importances(self) -> list[Importance]:
        """How much each parameter mattered, the most first; empty if it cannot be told."""
        if len(self.ranked) < 2 or self.elsewhere:
            return []
        # Optuna refuses what it cannot tell apart, for instance values that are all equal; then nothing can be said.
        with contextlib.suppress(ResultsError, ValueError, RuntimeError):
            found = [each for each in importances(self.results) if math.isfinite(each.importance)]
            return sorted(found, key=lambda each: -each.importance)
        return []

    @cached_property
    def failures(self) -> list[Failure]:
        """Kinds of failures."""
        return failures(self.results)

    @cached_property
    def compared(self) -> list["Compared"]:
        """What each sweep's final job compared last, in the order of the sweeps; those without one are left out."""
        return [found for name in self.names if (found := self._compared(name)) is not None]

    @cached_property
    def contenders(self) -> list["Contender"]:
        """The configurations that were compared, of one sweep after the other, the best mean of each first."""
        return [each for compared in self.compared for each in compared.contenders]

    @cached_property
    def costs(self) -> list[tuple[str, str]]:
        """The metrics by which final jobs said what is cheap to run, with what is cheaper; none if no job said so."""
        return list(dict.fromkeys(cost for each in self.compared for cost in each.choice.costs))

    def compared_in(self, sweep: str) -> "Compared | None":
        """Returns what a sweep's final job compared last."""
        return next((each for each in self.compared if each.sweep == sweep), None)

    def contender_of(self, row: Row) -> "Contender | None":
        """Returns the configuration of a final model among those that its sweep's final job compared last."""
        found = self.compared_in(row["sweep"])
        return next((each for each in found.contenders if each.key == key_of(row)), None) if found else None

    @cached_property
    def chosen(self) -> list[dict[str, Any]]:
        """The final models that were chosen, at most one a sweep, in the order of the sweeps."""
        found: list[dict[str, Any]] = []
        for name in self.names:
            compared = self.compared_in(name)
            number = compared.choice.final if compared else None
            mine = [row for row in self.tables["finals"] if row["sweep"] == name]
            found += [row for row in mine if (row["chosen"] if number is None else row["final"] == number)][:1]
        return found

    def is_chosen(self, row: Row) -> bool:
        """Whether a final model is the one that its sweep's final job chose."""
        return any((row["sweep"], row["final"]) == (each["sweep"], each["final"]) for each in self.chosen)

    @cached_property
    def shipped(self) -> list[dict[str, Any]]:
        """The final models that are not compared: several models as one, and such as saw the validation part."""
        return [row for row in self.tables["finals"] if (row.get("kind") or SINGLE) != SINGLE]

    def source(self, row: Row) -> str:
        """Returns the name of the sweep that the trial of a final model belongs to."""
        source = str(row.get("source") or "")
        return self._sources.get(source, source) if source else row["sweep"]

    @cached_property
    def _sources(self) -> dict[str, str]:
        """Other sweeps as rows name them -> as the page does: by name, or by as many folders as tell them apart."""
        found: dict[str, str] = {}
        for source in dict.fromkeys(row.get("source") or "" for row in self.tables["finals"]):
            place = source.rstrip("/")
            here = [each.name for each in self.results.sweeps if place in (each.name, each.storage.uri.rstrip("/"))]
            folders = place.split("/")
            endings = ["/".join(folders[-depth:]) for depth in range(1, len(folders) + 1)]
            taken = {*self.names, *found.values()}
            found[source] = next((name for name in (*here, *(each for each in endings if each not in taken))), place)
        return found

    def trial_of(self, row: Row) -> str:
        """Returns the id of the trial whose configuration a final model has."""
        return f"{self.source(row)}/{row['trial']}"

    def name_of(self, row: Row) -> str:
        """Returns what a final model is called: by the trial of its configuration, and by what else it is."""
        kind = row.get("kind") or SINGLE
        if kind == ENSEMBLE:
            return f"{row['sweep']}: ensemble of {len(members(row))}"
        return self.trial_of(row) if kind == SINGLE else f"{self.trial_of(row)} of {KINDS.get(kind, kind)}"

    def _compared(self, sweep: str) -> "Compared | None":
        finals = [row for row in self.tables["finals"] if row["sweep"] == sweep]
        choice = last((row for row in self.tables["choices"] if row["sweep"] == sweep), finals, self.metric)
        choice = choice or earlier(
            finals,
            self._promises(sweep, length_of(finals)),
            objective=self.metric,
            goal=self.goal,
            pieces={final: pieces for (name, final), pieces in self._pieces.items() if name == sweep},
            rule=str(self.asked("final", "rule", sweep) or ""),
            seed=self._seed(sweep),
        )
        if choice is None:
            return None
        added = {row["final"] for row in finals if (row.get("round") or 0) > 0}
        contenders = [
            Contender(
                id=self.trial_of({"sweep": sweep, "source": each.source, "trial": each.trial}),
                raced=len(added.intersection(each.finals)),
                **vars(each),
            )
            for each in choice.contenders
        ]
        return Compared(sweep=sweep, choice=choice, contenders=contenders)

    def _promises(self, sweep: str, length: int | None) -> dict[Key, Promise]:
        """Returns what trials had reached from which a final job that wrote no `choices` chose, the best first."""
        finals = [row for row in self.tables["finals"] if row["sweep"] == sweep]
        sources = dict.fromkeys((row.get("source") or "", self.source(row)) for row in finals)
        known = [row for row in self.trials if finite(row[self.metric])]
        known.sort(key=lambda row: (row["state"] == "stopped", self.sort_key(row[self.metric])))
        whole = {row["id"] for row in self.ranked if row["state"] == "completed" and row["epochs"] == length}
        return {
            Key(source, row["trial"]): Promise(row[self.metric], fair=row["id"] in whole)
            for row in known
            for source, name in sources
            if name == row["sweep"]
        }

    def _seed(self, sweep: str) -> int:
        """Returns the seed that a final job drew with, so that the page has its figures."""
        seed = self.asked("sweep", "seed", sweep)
        return seed if isinstance(seed, int) and seed >= 0 else 0

    def asked(self, section: str, name: str, sweep: str) -> Any:
        """Returns a setting of a sweep; None if it is not known."""
        found = self.settings.get(sweep, {}).get(section)
        return found.get(name) if isinstance(found, Mapping) else None

    @cached_property
    def _pieces(self) -> dict[tuple[str, int], dict[str, tuple[float, float]]]:
        """Returns the scores by piece of each final model on the split that the objective is measured on."""
        found: dict[tuple[str, int], dict[str, tuple[float, float]]] = defaultdict(dict)
        for row in self.tables["piece_scores"]:
            if row["split"] != "test" and finite(row["value"]) and finite(row["weight"]):
                found[row["sweep"], row["final"]][row["piece"]] = (row["value"], row["weight"])
        return found

    def sort_key(self, value: float | None) -> float:
        """Returns a number that is less for a better value; infinite if there is none."""
        return self.sign * value if value is not None and math.isfinite(value) else math.inf

    def gain(self, row: Row) -> tuple[float, tuple[float, float] | None] | None:
        """Returns how much worse an ensemble is than its first member, over the same pieces, and the interval of that.

        Less than 0 is better, whatever the goal. None if the pieces of the two are not known.
        """
        of = [self._pieces.get((row["sweep"], number)) for number in (row["final"], *members(row)[:1])]
        if len(of) == 2 and of[0] and of[1]:
            with contextlib.suppress(CallerError):  # the pieces are not the same
                apart, span = difference(of[0], of[1], seed=self._seed(row["sweep"]))
                ends = sorted(self.sign * end for end in span) if span else None
                return self.sign * apart, (ends[0], ends[1]) if ends else None
        return None

    def ships(self, row: Row) -> bool:
        """Whether a final model lies in its sweep's bundle."""
        card = self.cards.get(row["sweep"], {})
        return card.get("shipped", card.get("final")) == row["final"]

    def card_of(self, row: Row) -> dict[str, Any]:
        """Returns the card of a chosen model, if it is that of its sweep's bundle; empty if not."""
        card = self.cards.get(row["sweep"], {})
        return card if card.get("final") == row["final"] else {}


@dataclass(frozen=True, kw_only=True)
class Contender(choices.Contender):
    """A configuration that was trained anew, as the page has it.

    Attributes:
        id: of its trial.
        raced: how many of its trainings racing added, because they could change the choice.
    """

    id: str
    raced: int


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What the final job of a sweep compared last.

    Attributes:
        sweep: its name.
        choice: how configurations compare, and which was taken.
        contenders: those of `choice`.
    """

    sweep: str
    choice: choices.Choice
    contenders: Sequence[Contender]


def gather(results: Results) -> Facts:
    """Returns what the page tells of sweeps.

    Raises:
        CallerError: the sweeps have different objectives, or none, or their trials were scored on different data.
        SchemaError: a ledger cannot be understood.
    """
    metric, goal = objective(results)
    wanted = ("trials", "sessions", *FINAL_TABLES, "attempts", "attempt_ends", "decisions")
    tables = {name: rows.to_pylist() for name, rows in results.tables(dict.fromkeys(wanted)).items()}
    for name in ("trials", "attempts", "attempt_ends", "decisions"):
        for row in tables[name]:
            row["id"] = f"{row['sweep']}/{row['trial']}"
    trials = tables.pop("trials")
    _check_data(results, trials, metric)
    scored: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in trials:
        if finite(row[metric]):
            scored[row["data_fingerprint"] or ""].append(row)
    prints = sorted(scored, key=lambda each: -len(scored[each]))
    main = prints[0] if prints else ""
    sign = 1 if goal == "min" else -1
    ranked = sorted(scored.get(main, []), key=lambda row: (sign * row[metric], row["sweep"], row["trial"]))
    newest = ranked[:1] or tables["sessions"][-1:]
    data = (newest[0]["data"] or "", newest[0]["data_fingerprint"] or "") if newest else ("", "")
    try:
        found = curves(results)
    except LedgerError:
        found = []  # no epoch has ended yet
    return Facts(
        results=results,
        metric=metric,
        goal=goal,
        trials=trials,
        ranked=ranked,
        data=data,
        elsewhere=sum(len(scored[each]) for each in prints[1:]),
        curves=found,
        tables=tables,
        cards=_documents(results, CARD),
        settings=_documents(results, SETTINGS),
    )


def members(row: Row) -> tuple[int, ...]:
    """Returns the numbers of the finals that an ensemble is made of."""
    return final_numbers(row.get("members"))


def unfinished(facts: Facts) -> list[dict[str, Any]]:
    """Returns the trials that have not ended."""
    return [row for row in facts.trials if row["state"] in UNFINISHED]


def finite(value: Any) -> bool:
    """Whether a value is a number, neither missing nor infinite nor NaN."""
    return isinstance(value, int | float) and math.isfinite(value)


def _check_data(results: Results, trials: Sequence[Row], metric: str) -> None:
    if len(results.sweeps) < 2:
        return
    used = {row["data_fingerprint"]: (row["data"], row["sweep"]) for row in trials if finite(row[metric])}
    if len(used) > 1:
        told = ", ".join(
            f"{sweep}: {data or UNKNOWN_DATA} ({(fingerprint or 'no fingerprint')[:12]})"
            for fingerprint, (data, sweep) in used.items()
        )
        raise CallerError(
            f"these sweeps were scored on different data ({told}), so one page cannot rank them together; "
            "make a page for each"
        )


def _documents(results: Results, path: str) -> dict[str, dict[str, Any]]:
    """Returns a JSON object that lies in the folder of each sweep; what is missing or broken is left out."""
    found = {}
    for sweep in results.sweeps:
        with contextlib.suppress(FileNotFoundError, ValueError, ResultsError):
            document = json.loads(sweep.storage.read(path))
            if isinstance(document, dict):
                found[sweep.name] = document
    return found
