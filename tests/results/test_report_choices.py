"""What was chosen is told as the final job wrote it down: by one sweep or several, with what it cost and took."""

import dataclasses

import pytest

import results
from results.report import costs, decision, facts, makers, markup
from tests.results import decided, ledgers
from tests.results.pages import page_of


def gathered(*storages) -> facts.Facts:
    return facts.gather(results.open(*(storage.uri for storage in storages)))


def two(folder, *values) -> list[decided.Decided]:
    """Sweeps `aa` and `bb`, of which each has trained two configurations anew, with these values."""
    sweeps = []
    for name, scores in zip(("aa", "bb"), values, strict=True):
        sweep = decided.Decided(folder, name)
        for trial, mine in enumerate(scores):
            sweep.trial(trial)
            for value in mine:
                sweep.final(trial, value, chosen=value == min(scores[0]))
        sweep.choose()
        sweep.flush()
        sweeps.append(sweep)
    return sweeps


def test_the_last_choice_is_told_and_nothing_of_others(tmp_path):
    sweep = decided.begun(tmp_path)
    sweep.final(2, 0.10, epochs=1)  # of another length, and not of any choice
    sweep.add("finals", **sweep.said["finals"][2] | {"val_nll": 9.9})  # whatever stands there now
    sweep.flush()
    found = gathered(sweep.storage)
    rows = sorted(sweep.said["choices"], key=lambda row: row["rank"])
    assert [each.mean for each in found.contenders] == [row["mean"] for row in rows]
    assert [each.finals for each in found.contenders] == [(0, 1, 2), (3, 4, 5, 9), (6, 7, 8)]
    assert [each.expected for each in found.contenders] == [row["expected"] for row in rows]
    sweep = decided.begun(tmp_path, "again")
    again = sweep.choose(rule="best_mean", costs=(), number=1)
    sweep.flush()
    [compared] = gathered(sweep.storage).compared
    assert compared.choice == again


def test_a_ledger_without_choices_is_told_like_one_with_them(tmp_path):
    with_them = gathered(decided.decided(tmp_path / "new"))
    without = gathered(decided.decided(tmp_path / "old", choices=False))
    assert without.tables["choices"] == []
    assert without.contenders == [dataclasses.replace(each, costs={}) for each in with_them.contenders]
    assert [row["final"] for row in without.chosen] == [row["final"] for row in with_them.chosen] == [0]


def test_lengths_and_data_are_not_mixed_where_there_are_no_choices(tmp_path):
    sweep = decided.begun(tmp_path, choices=False)
    for trial in (0, 1, 2):
        sweep.final(trial, 3.0, epochs=1)
        sweep.final(trial, 3.0, data_fingerprint="a" * 64)
    sweep.flush()
    assert [each.finals for each in gathered(sweep.storage).contenders] == [(0, 1, 2), (3, 4, 5, 9), (6, 7, 8)]


def test_trials_of_a_sweep_of_the_same_name_are_others(tmp_path):
    sweep = decided.Decided(tmp_path)
    sweep.trial(0)
    for value in (0.8, 0.9):
        sweep.final(0, value)
        sweep.final(0, value + 1, source="/elsewhere/old/laptop")
    sweep.flush()
    assert [(each.id, each.mean) for each in gathered(sweep.storage).contenders] == [
        ("laptop/0", pytest.approx(0.85)), ("old/laptop/0", pytest.approx(1.85)),
    ]  # fmt: skip


def test_several_sweeps_have_a_choice_each_and_none_over_all(tmp_path):
    # The luckiest single seed is of aa, the best mean of bb.
    aa, bb = two(tmp_path, [(0.50, 0.90, 0.94), (1.50, 1.52, 1.51)], [(0.70, 0.71, 0.72), (1.60, 1.61, 1.62)])
    found = gathered(aa.storage, bb.storage)
    told = decision.decision(found)
    assert told.headline == "Each of 2 sweeps has chosen a model of its own"
    assert "aa chose the model of trial aa/0: val_nll 0.78, mean of 3 trainings, 95 %: " in told.reasons[0]
    assert "bb chose the model of trial bb/0: val_nll 0.71, mean of 3 trainings, 95 %: " in told.reasons[1]
    assert "bb/0 has the best mean val_nll: 0.71. That is no choice" in told.reasons[2]
    assert "`search final aa --with bb` compares them" in told.reasons[2]
    assert [(each.label, each.value) for each in told.figures] == [("val_nll, aa", "0.78"), ("val_nll, bb", "0.71")]
    page = page_of(aa.storage, bb.storage)
    assert len(page.ids) == len(set(page.ids))
    assert "Trained anew, by aa" in page.text
    assert "Trained anew, by bb" in page.text


def test_a_final_job_over_all_sweeps_is_named_as_such(tmp_path):
    _, bb = two(tmp_path, [(0.5, 0.51)], [(0.7, 0.71)])
    both = decided.Decided(tmp_path, "both")
    for name in ("", "aa", "bb"):
        both.final(0, 0.9, source=name, chosen=not name)
    both.trial(0)
    both.flush()
    found = gathered(both.storage, bb.storage)
    assert "The final job of both compared configurations of all of them" in decision.decision(found).reasons[2]


def test_models_of_different_sweeps_are_not_called_alike(tmp_path):
    sweeps = two(tmp_path, [(0.5, 0.51)], [(0.7, 0.71)])
    for sweep in sweeps:
        sweep.sample(0, "cold")
        sweep.flush()
    text = page_of(*(sweep.storage for sweep in sweeps)).text
    assert "models of different sweeps were not compared" in text
    assert "cannot be told apart" not in text


def test_the_large_number_is_the_configurations_and_that_of_the_model_its_note(tmp_path):
    found = gathered(decided.decided(tmp_path))
    loss = next(each for each in decision.decision(found).figures if each.label == "val_nll")
    low, high = found.contenders[0].interval or (0, 0)
    assert loss.value == "0.82"
    assert loss.note == f"nats per note, mean of 3 trainings, 95 %: {low:.4g} to {high:.4g}; this one model 0.8"


def test_samples_that_are_gone_are_not_shown_and_not_counted(tmp_path):
    sweep = decided.begun(tmp_path)
    for row in sweep.said["samples"][:3] + sweep.said["samples"][5:]:
        sweep.writer.append("samples", row | {"path": ""})
    sweep.flush()
    [maker] = makers.makers(gathered(sweep.storage))
    assert [row["name"] for row in maker.samples] == ["harmony-bwv1", "original-bwv1"]
    assert "It has no files" not in page_of(sweep.storage).text


def test_what_a_model_costs_is_what_its_final_job_went_by(tmp_path):
    sweep = decided.begun(tmp_path, choices=False)
    sweep.choose(costs=(("train_loss", "min"),))
    sweep.flush()
    labels = [each.label for each in decision.decision(gathered(sweep.storage)).figures]
    assert labels == ["test_nll", "val_nll", "train_loss"]
    sweep.choose(costs=(), number=1)
    sweep.flush()
    assert [e.label for e in decision.decision(gathered(sweep.storage)).figures] == ["test_nll", "val_nll"]


def test_each_sweep_has_the_price_that_its_own_file_names(tmp_path):
    one, other = ledgers.laptop(tmp_path, "one"), ledgers.laptop(tmp_path, "other")

    def money(*prices: bytes) -> float:
        for storage, price in zip((one, other), prices, strict=True):
            storage.write("sweep.json", b'{"sweep": {%s}}' % price)
        return sum(share.money for share in costs.time_shares(gathered(one, other)))

    held = sum(share.held_s for share in costs.time_shares(gathered(one, other)))
    assert money(b"", b"") == 0
    assert "money" not in page_of(one, other).text
    assert money(b'"price_per_hour": 3600', b"") == pytest.approx(held / 2)
    text = page_of(one, other).text
    assert (
        f"At {markup.number(3600)} (one) an hour of a GPU, or of a core where there is none, that is {held / 2:.2f}"
        in text
    )
    assert "What other cost is not known." in text
    assert money(b'"price_per_hour": 3600', b'"price_per_hour": 7200') == pytest.approx(1.5 * held)
    assert f"At {markup.number(3600)} (one), {markup.number(7200)} (other) an hour" in page_of(one, other).text
