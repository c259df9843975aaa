"""Figures on the page are those that pandas computes from the tables; final models are shown for what they are."""

import math
import statistics

import pandas as pd
import pytest
from scipy import stats

import results
from results import report
from results.report import costs, facts, finals, markup
from results.statistics import shrunken
from results.storage import Storage
from tests.results import decided, ledgers
from tests.results.pages import page_of


@pytest.fixture(scope="module")
def storage(tmp_path_factory) -> Storage:
    return decided.decided(tmp_path_factory.mktemp("decided"))


@pytest.fixture(scope="module")
def gathered(storage) -> facts.Facts:
    return facts.gather(results.open(storage.uri))


@pytest.fixture(scope="module")
def text(storage) -> str:
    return page_of(storage).text


def frame(storage: Storage, table: str) -> pd.DataFrame:
    """A table as anybody reads it, without any code of ours; the ledgers of these tests hold no row twice."""
    return pd.read_parquet(storage.where(f"ledger/{table}"))


def test_means_deviations_and_differences_are_those_of_the_table(storage, gathered):
    rows = frame(storage, "finals")
    rows = rows[(rows["kind"] == "single") & (rows["state"] == "completed")]
    by_trial = rows.groupby("trial")["val_nll"]
    means = by_trial.mean()
    assert [each.id for each in gathered.contenders] == [f"laptop/{trial}" for trial in means.sort_values().index]
    for each in gathered.contenders:
        trial = int(each.id.split("/")[1])
        assert each.mean == pytest.approx(means[trial])
        assert each.sd == pytest.approx(by_trial.std()[trial])
        assert len(each.finals) == by_trial.size()[trial]
        assert each.difference == pytest.approx(means[trial] - means.min())
        assert each.raced == (trial == 1)
        low, high = each.interval or (math.nan, math.nan)
        assert low < means[trial] < high


def test_who_is_tied_and_how_likely_the_best_is_shown(gathered, text):
    first, second, third = gathered.contenders
    assert first.tied
    assert second.tied
    assert not third.tied
    chances = [each.chance_best or 0.0 for each in gathered.contenders]
    assert sum(chances) == pytest.approx(1)
    for each, badge, chance in zip(gathered.contenders, ("chosen", "tied", ""), chances, strict=True):
        assert f"{each.id} {badge}".strip() in text
        assert f"{chance:.0%}" in text
    assert "41 by racing" in text, "four seeds, one of them by racing"


def test_what_the_sweep_promised_is_held_against_what_was_found(storage, gathered, text):
    trials, rows = frame(storage, "trials").set_index("trial"), frame(storage, "finals")
    rows = rows[rows["kind"] == "single"]
    means = rows.groupby("trial")["val_nll"].mean()
    whole = trials[(trials["state"] == "completed") & (trials["epochs"] == 6)]["val_nll"]
    within = rows.groupby("trial")["val_nll"]
    seed_variance = ((rows["val_nll"] - within.transform("mean")) ** 2).sum() / (len(rows) - within.ngroups)
    expected = dict(zip(whole.index, shrunken(whole.tolist(), math.sqrt(seed_variance)) or [], strict=True))
    for each in gathered.contenders:
        trial = int(each.id.split("/")[1])
        assert each.in_sweep == pytest.approx(trials["val_nll"][trial])
        assert each.expected == pytest.approx(expected[trial])
    gap = (means - trials["val_nll"][means.index]).mean()
    told = finals.promised(gathered, gathered.compared[0].choice)
    assert f"scores {abs(gap):.2g} {'worse' if gap > 0 else 'better'} than the sweep had promised" in told
    assert "was to be expected" in told
    assert "What the sweep had promised" in text


def test_promises_that_cannot_be_corrected_are_said_to_be_so(tmp_path):
    storage = ledgers.laptop(tmp_path)  # one seed each
    assert "What was to be expected cannot be told" in page_of(storage).text


def test_when_more_is_better_being_behind_is_still_positive(tmp_path):
    sweep = decided.Decided(tmp_path, objectives=(("val_nll", "max"),))
    for number in range(3):
        sweep.trial(number)
    for trial, value in ((0, 0.5), (0, 0.52), (1, 0.9), (1, 0.92)):
        sweep.final(trial, value)
    sweep.flush()
    gathered = facts.gather(results.open(sweep.storage.uri))
    assert [each.id for each in gathered.contenders] == ["laptop/1", "laptop/0"]
    gap, ends = finals.behind(gathered.contenders[1], gathered.sign)
    assert gap == pytest.approx(0.4)
    assert ends is not None
    assert 0 < ends[0] < gap < ends[1]


def test_models_made_of_others_are_shown_as_such_and_compared_with_nothing(storage, gathered, text):
    assert [len(each.scores) for each in gathered.contenders] == [3, 4, 3]
    assert "0.5" not in {f"{value:g}" for each in gathered.contenders for value in each.scores}
    made = text[text.index("Made of them") :][:600]
    assert "laptop: ensemble of 3" in made
    assert "of the finals 0, 1, 2" in made
    assert "laptop/0 of train and valid" in made
    assert "0.5seen in training" in made


def test_a_chosen_ensemble_says_so(tmp_path):
    sweep = decided.Decided(tmp_path)
    sweep.trial(0)
    sweep.trial(1)
    for trial in (0, 1):
        sweep.final(trial, 0.8 + trial)
    sweep.final(0, 0.7, kind="ensemble", chosen=True, members="0, 1")
    sweep.flush()
    assert "An ensemble of 2 models is chosen" in page_of(sweep.storage).text[:300]


def test_an_ensemble_is_held_against_its_first_member_over_the_same_pieces(tmp_path):
    sweep = decided.begun(tmp_path)
    for final, shift in ((0, 0.0), (11, -0.05)):
        for piece in range(8):
            value, weight = 0.8 + 0.01 * piece + shift * (1 + piece % 3), 100.0 + piece
            sweep.add("piece_scores", final=final, split="valid", piece=f"p{piece}", value=value, weight=weight)
    sweep.flush()
    gathered = facts.gather(results.open(sweep.storage.uri))
    rows = frame(sweep.storage, "piece_scores")
    by_final = {n: (g["value"] * g["weight"]).sum() / g["weight"].sum() for n, g in rows.groupby("final")}
    gain = gathered.gain(next(row for row in gathered.shipped if row["kind"] == "ensemble"))
    assert gain is not None
    assert gain[0] == pytest.approx(by_final[11] - by_final[0])
    assert gain[1] is not None
    assert gain[1][0] < gain[0] < gain[1][1] < 0
    assert f"{markup.number(gain[0], 2)} ({markup.number(gain[1][0], 2)}" in page_of(sweep.storage).text


def test_pieces_alone_do_not_make_a_configuration_better_than_chance(tmp_path):
    sweep = decided.Decided(tmp_path)
    for trial, gap in ((0, 0.0), (1, 0.2)):
        sweep.trial(trial)
        values = [0.8 + 0.01 * (piece % 4) + gap for piece in range(40)]
        final = sweep.final(trial, sum(values) / len(values), chosen=not trial)
        for piece, value in enumerate(values):
            sweep.add("piece_scores", final=final, split="valid", piece=f"p{piece}", value=value, weight=100.0)
    sweep.flush()
    said = page_of(sweep.storage).text
    assert "Over other pieces this model would stay ahead." in said
    assert "more than chance would explain" not in said


def test_finals_of_another_sweep_go_by_its_name(tmp_path):
    other = ledgers.plain(tmp_path, "families", 4, 6)
    sweep = decided.Decided(tmp_path)
    for number in range(4):
        sweep.trial(number)
    sweep.final(0, 0.9)
    sweep.final(0, 0.7, source=other.uri, chosen=True)
    sweep.final(1, 0.95, source=other.uri)
    sweep.flush()
    alone = facts.gather(results.open(sweep.storage.uri))
    assert [each.id for each in alone.contenders] == ["families/0", "laptop/0", "families/1"]
    assert [each.in_sweep is None for each in alone.contenders] == [True, False, True]
    together = facts.gather(results.open(sweep.storage.uri, other.uri))
    trial = frame(other, "trials").set_index("trial")["val_nll"]
    assert [each.in_sweep for each in together.contenders if each.id == "families/1"] == [pytest.approx(trial[1])]
    found = page_of(sweep.storage, other).text
    assert "The model of trial 0 is chosen, of families" in found
    assert "What the sweep had promised" in found


def test_a_ledger_without_finals_says_that_nothing_is_chosen(tmp_path):
    found = page_of(ledgers.plain(tmp_path, "plain", 6, 4)).text
    assert "No model has been chosen yet" in found
    assert "Trained anew" not in found


def test_time_is_that_of_the_attempts_and_the_final_trainings(tmp_path):
    storage = ledgers.laptop(tmp_path)
    ends, done = frame(storage, "attempt_ends"), frame(storage, "finals")
    shares = {share.kind: share.seconds for share in costs.time_shares(facts.gather(results.open(storage.uri)))}
    lost = ends[ends["outcome"].isin(["failed", "lost"])]
    kept = ends.drop(lost.index)
    assert shares["failed"] == pytest.approx(lost["wall_s"].sum())
    for outcome in ("completed", "stopped"):
        assert shares[outcome] == pytest.approx(kept[kept["outcome"] == outcome]["train_s"].sum())
    assert shares["starting"] == pytest.approx(kept["start_s"].sum())
    rest = (kept["wall_s"] - kept["train_s"] - kept["start_s"]).clip(lower=0).sum()
    assert shares["saving"] == pytest.approx(rest)
    assert shares["waiting"] == pytest.approx(ends["wait_s"].sum())
    assert shares["final"] == pytest.approx(done["train_s"].sum())
    # By hand: eight trials of six epochs and one of four, at two seconds an epoch.
    assert shares["completed"] == 8 * 6 * 2 + 4 * 2


def test_time_has_its_price_where_the_sweep_file_names_one(tmp_path):
    storage = ledgers.laptop(tmp_path)
    storage.write("sweep.json", b'{"sweep": {"price_per_hour": 3600}}')
    shares = {share.kind: share.held_s for share in costs.time_shares(facts.gather(results.open(storage.uri)))}
    ends, done = frame(storage, "attempt_ends"), frame(storage, "finals")
    total = sum(shares.values())
    # One core each; where training and starting take longer than the whole attempt, they are what counts.
    saving = (ends["wall_s"] - ends["train_s"] - ends["start_s"]).clip(lower=0)
    worked = (ends["train_s"] + ends["start_s"] + saving).where(
        ~ends["outcome"].isin(["failed", "lost"]), ends[["wall_s"]].max(axis=1)
    )
    assert total == pytest.approx(worked.sum() + done["train_s"].sum())
    assert shares["waiting"] == 0
    found = page_of(storage).text
    assert f"that is {total:.2f}" in found
    assert f"{shares['failed']:.2f}" in found


def test_failures_are_grouped_by_reason(tmp_path):
    storage = ledgers.laptop(tmp_path)
    ends = frame(storage, "attempt_ends")
    failed = ends[ends["outcome"].isin(["failed", "lost"])].groupby("reason_kind")
    gathered = facts.gather(results.open(storage.uri))
    assert {each.kind: each.num_attempts for each in gathered.failures} == failed.size().to_dict()
    found = page_of(storage).text
    section = found[found.index("reason", found.rindex("What failed")) :]
    assert all(kind in section for kind in failed.groups)


def test_stops_by_rung_are_counted_from_the_decisions(storage, gathered):
    rows = frame(storage, "decisions")
    for (bracket, epoch), group in rows.groupby(["bracket", "epoch"]):
        (found,) = [each for each in costs.stops_by_rung(gathered) if each[:2] == (bracket, epoch)]
        assert found[2:4] == ((group["verdict"] == "stop").sum(), len(group))


def test_the_audit_counts_as_the_command_does(tmp_path):
    search_audit = pytest.importorskip("search.audit")
    sweep = ledgers.Sweep(tmp_path)
    for number in range(30):
        sweep.trial(number)
    for number in (2, 7, 11, 19, 23):
        sweep.add("decisions", trial=number, attempt=1, epoch=3, bracket=0, rung=1, value=1.0, cutoff=0.9,
                  num_values=3, verdict="continue", audited=True)  # fmt: skip
    sweep.flush()
    opened = results.open(sweep.storage.uri)
    found = costs.audit(facts.gather(opened))
    command = search_audit.audit(results.Ledger(sweep.storage))
    assert (found.num_wrong, len(found.trials)) == (command.wrong.count, command.wrong.of)
    assert found.num_good == command.num_good
    assert found.interval == pytest.approx((command.wrong.low, command.wrong.high))
    assert {each.id: each.rank for each in found.trials} == {f"laptop/{a.trial}": a.rank for a in command.audited}
    ends = stats.binomtest(found.num_wrong, 5).proportion_ci(method="wilson")
    assert f"{ends.low:.0%} to {ends.high:.0%}" in page_of(sweep.storage).text


def test_the_ranking_and_the_front_are_those_of_the_table(storage, text):
    trials = frame(storage, "trials")
    order = trials.sort_values("val_nll")["trial"].tolist()
    table = text[text.index("In the sweep", text.index("Made of them")) :]
    places = [table.index(f"laptop/{trial}") for trial in order[:5]]
    assert places == sorted(places)
    front = [
        row["trial"]
        for _, row in trials.iterrows()
        if not ((trials["val_nll"] <= row["val_nll"]) & (trials["notes_per_s"] > row["notes_per_s"])).any()
        and not ((trials["val_nll"] < row["val_nll"]) & (trials["notes_per_s"] >= row["notes_per_s"])).any()
    ]
    html = report.page(results.open(storage.uri))
    caption = "Trials that nothing beats in both val_nll and notes_per_s"
    part = html[html.index(f"<caption>{caption}") :]
    part = part[: part.index("</table>")]
    assert sorted(part.count(f'data-id="laptop/{trial}"') for trial in front) == [1] * len(front)
    assert part.count("data-id") == len(front)


def test_values_of_parameters_stand_in_a_table(storage):
    html = report.page(results.open(storage.uri))
    part = html[html.index("<caption>Values of the parameters") :]
    rate = frame(storage, "trials")["config.train.learning_rate"]
    assert f"median {statistics.median(rate):.4g}" in part
