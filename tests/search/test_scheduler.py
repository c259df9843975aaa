import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.errors import SpecError
from search.scheduler import Decision, SchedulerSettings, create

KINDS = ("asha", "asha_promotion", "hyperband", "median", "none")
LOSSES = st.floats(-100, 100, allow_nan=False)


def scheduler(kind="asha", **options):
    return create(SchedulerSettings(**{"kind": kind, "reduction": 3, "max_epochs": 9, **options}))


def verdicts(decisions):
    return {d.trial: d.verdict for d in decisions}


def curve(scheduler, trial, losses):
    """Reports a trial until it is stopped or paused; returns its decisions."""
    scheduler.start(trial)
    found = []
    for epoch, loss in enumerate(losses, start=1):
        decision = scheduler.report(trial, epoch, loss)
        if decision is not None:
            found.append(decision)
            if decision.verdict in ("stop", "pause"):
                return found
    if len(losses) == scheduler.settings.max_epochs:
        scheduler.end(trial)
    return found


# --- settings ---


def test_rungs_lie_before_the_last_epoch_each_reduction_times_as_far():
    assert SchedulerSettings(first_rung=1, reduction=3, max_epochs=81).rungs == (1, 3, 9, 27)
    assert SchedulerSettings(first_rung=2, reduction=4, max_epochs=33).rungs == (2, 8, 32)
    assert SchedulerSettings(first_rung=1, reduction=1.5, max_epochs=8).rungs == (1, 2, 3, 5, 7)
    assert SchedulerSettings(first_rung=5, max_epochs=5).rungs == ()


def test_a_sweep_with_more_epochs_keeps_its_rungs():
    short, long = (SchedulerSettings(first_rung=2, max_epochs=n).rungs for n in (12, 100))
    assert long[: len(short)] == short


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "ahsa"}, "kind: unknown 'ahsa'; did you mean 'asha'"),
        ({"first_rung": 0}, "first_rung: got 0, expected a whole number from 1"),
        ({"first_rung": 1.5}, "first_rung: got 1.5"),
        ({"max_epochs": 0}, "max_epochs: got 0"),
        ({"max_epochs": True}, "max_epochs: got True"),
        ({"reduction": 1}, "reduction: got 1, expected a finite number above 1"),
        ({"reduction": math.nan}, "reduction: got nan"),
        ({"reduction": math.inf}, "reduction: got inf"),
        ({"audit_share": 1.1}, "audit_share: got 1.1, expected 0..1"),
        ({"audit_share": math.nan}, "audit_share: got nan"),
        ({"min_trials": 0}, "min_trials: got 0"),
        ({"seed": "x"}, "seed: got 'x'"),
        ({"brackets": 4}, "brackets: got 4, expected at most 2: there are rungs at epochs 1, 3 of 9"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(SpecError) as refused:
        scheduler(**options)
    assert message in str(refused.value)


# --- ASHA by example ---


def test_asha_keeps_the_best_third_of_a_rung_so_far():
    asha = scheduler(reduction=3, max_epochs=9)  # rungs after epochs 1 and 3
    expected = [
        # trial, loss, cutoff, verdict: what the rung holds, how many of it go on
        (0, 5.0, None, "continue"),  # 5               the first: nothing to compare with
        (1, 6.0, 5.0, "stop"),  # 5 6                  2 / 3 is none, but at least the best goes on
        (2, 4.0, 4.0, "continue"),  # 4 5 6            3 / 3: the best
        (3, 4.5, 4.0, "stop"),  # 4 4.5 5 6            4 / 3: the best
        (4, 7.0, 4.0, "stop"),  # 4 4.5 5 6 7          5 / 3: the best
        (5, 4.4, 4.4, "continue"),  # 4 4.4 4.5 5 6 7  6 / 3: the best two
        (6, 4.4, 4.4, "continue"),  # 4 4.4 4.4 …      7 / 3: the best two; equal to the cutoff is good enough
    ]
    for trial, loss, cutoff, verdict in expected:
        asha.start(trial)
        assert asha.report(trial, 1, loss) == Decision(
            trial=trial, epoch=1, bracket=0, rung=0, value=loss, cutoff=cutoff, num_values=trial + 1, verdict=verdict
        )
    # Only trials 0, 2, 5 and 6 come to the second rung, which begins anew.
    assert asha.report(0, 2, 3.0) is None
    assert asha.report(0, 3, 2.0) == Decision(
        trial=0, epoch=3, bracket=0, rung=1, value=2.0, cutoff=None, num_values=1, verdict="continue"
    )
    second = asha.report(2, 3, 2.5)
    assert second is not None
    assert (second.cutoff, second.verdict) == (2.0, "stop")


def test_a_value_that_is_not_finite_is_stopped_and_counts_for_nothing():
    asha = scheduler()
    for trial, loss in enumerate([math.nan, math.inf, -math.inf]):
        decision = asha.report(trial, 1, loss)
        assert decision is not None
        assert decision.verdict == "stop"
    first = asha.report(3, 1, 1.0)
    assert first is not None
    assert (first.verdict, first.cutoff, first.num_values) == ("continue", None, 1)
    between_rungs = asha.report(3, 2, math.nan)
    assert between_rungs is not None
    assert between_rungs.verdict == "stop"


def test_a_later_attempt_replaces_the_value():
    asha = scheduler()
    asha.report(0, 1, 5.0)
    asha.report(1, 1, 4.0)
    asha.report(1, 1, 6.0)  # another attempt at trial 1 came to another loss
    third = asha.report(2, 1, 5.5)
    assert third is not None
    assert (third.cutoff, third.num_values) == (5.0, 3)


def test_a_value_that_was_finite_leaves_its_rung_when_a_later_attempt_is_not():
    asha = scheduler()
    asha.report(0, 1, 5.0)
    asha.report(0, 1, math.nan)
    second = asha.report(1, 1, 9.0)
    assert second is not None
    assert second.num_values == 1


def test_brackets_leave_out_rungs_and_share_the_trials():
    asha = scheduler(brackets=2, max_epochs=27, reduction=3)  # rungs 1, 3, 9
    brackets = [asha.start(trial) for trial in range(400)]
    assert brackets.count(1) == pytest.approx(100, abs=2)  # 1 to 1/3
    first, second = brackets.index(0), brackets.index(1)
    assert asha.milestones(first) == (1, 3, 9)
    assert asha.milestones(second) == (3, 9)
    assert asha.report(second, 1, 1e9) is None
    in_first, in_second = asha.report(first, 3, 1.0), asha.report(second, 3, 2.0)
    assert in_first is not None
    assert in_second is not None
    assert in_second.cutoff is None  # the brackets do not see each other
    assert (in_first.rung, in_second.rung) == (1, 1)


def test_a_trial_with_a_later_first_rung_joins_the_rungs_from_there():
    asha = scheduler(max_epochs=27)
    asha.start(0, first_rung=2)
    assert asha.milestones(0) == (3, 9)
    assert asha.report(0, 1, 7.0) is None


# --- promotion by example ---


def test_promotion_pauses_until_a_trial_is_among_the_best_third():
    asha = scheduler("asha_promotion")
    assert [d.verdict for d in curve(asha, 0, [3.0])] == ["pause"]  # 1 / 3: none goes on
    assert [d.verdict for d in curve(asha, 1, [2.0])] == ["pause"]  # 2 / 3
    assert [d.verdict for d in curve(asha, 2, [4.0])] == ["pause"]  # 3 / 3: one, and that is trial 1
    assert verdicts(asha.released()) == {1: "promote"}
    assert asha.released() == []
    assert [d.verdict for d in curve(asha, 3, [1.0])] == ["continue"]  # the best of 4: no need to wait
    assert [d.verdict for d in curve(asha, 4, [1.5])] == ["pause"]  # second of 5
    assert [d.verdict for d in curve(asha, 5, [9.0])] == ["pause"]  # 6 / 3: two, so now trial 4
    assert verdicts(asha.released()) == {4: "promote"}


def test_promotion_when_closed_trains_somebody_to_the_end():
    asha = scheduler("asha_promotion")
    curve(asha, 0, [3.0])
    curve(asha, 1, [2.0])
    assert verdicts(asha.close()) == {0: "stop", 1: "promote"}
    decision = asha.report(1, 3, 1.0)
    assert decision is not None
    assert decision.verdict == "continue"  # it is alone at the second rung, and nobody will come any more


# --- Hyperband by example ---


def test_hyperband_lays_its_brackets_out_as_in_the_paper():
    hyperband = scheduler("hyperband", max_epochs=81)  # with rungs 1, 3, 9, 27: the table of section 3.3 of the paper
    brackets = [hyperband.start(trial) for trial in range(81 + 34 + 15 + 8 + 5 + 1)]
    assert [brackets.count(b) for b in range(6)] == [81, 34, 15, 8, 5, 1]
    assert [hyperband.milestones(t) for t in (0, 81, 81 + 34, 81 + 34 + 15, 81 + 34 + 15 + 8)] == [
        (1, 3, 9, 27),
        (3, 9, 27),
        (9, 27),
        (27,),
        (),
    ]


def test_hyperband_halves_a_rung_when_all_have_come():
    hyperband = scheduler("hyperband")  # rungs 1, 3; the first bracket has 9 trials
    for trial in range(8):
        assert [d.verdict for d in curve(hyperband, trial, [float(trial)])] == ["pause"]
    assert hyperband.released() == []
    last = curve(hyperband, 8, [1.5])[-1]
    assert (last.verdict, last.cutoff, last.num_values) == ("continue", 1.5, 9)  # 9 / 3: trials 0, 1 and 8
    released = hyperband.released()
    assert verdicts(released) == {0: "promote", 1: "promote"} | dict.fromkeys(range(2, 8), "stop")
    for trial, loss in ((0, 3.0), (1, 2.0)):
        decision = hyperband.report(trial, 3, loss)
        assert decision is not None
        assert decision.verdict == "pause"
    hyperband.end(8)  # it failed on its way: of three the best goes on, and nobody waits
    assert verdicts(hyperband.released()) == {0: "stop", 1: "promote"}


def test_hyperband_counts_failed_trials_as_worst_and_never_promotes_them():
    hyperband = scheduler("hyperband")
    for trial in range(9):
        hyperband.start(trial)
    for trial in range(7):
        if trial % 2:
            hyperband.end(trial)
        else:
            hyperband.report(trial, 1, math.nan)
    hyperband.report(7, 1, 1.0)
    last = hyperband.report(8, 1, 2.0)
    assert last is not None
    assert (last.verdict, last.num_values) == ("continue", 9)  # 9 / 3 go on, but only two are left
    assert verdicts(hyperband.released()) == {7: "promote"}


def test_hyperband_that_is_closed_waits_for_nobody_and_can_go_on_later():
    hyperband = scheduler("hyperband")
    for trial, loss in enumerate([3.0, 1.0, 2.0]):
        curve(hyperband, trial, [loss])
    assert verdicts(hyperband.close()) == {0: "stop", 1: "promote", 2: "stop"}
    # The sweep is extended: a late trial is measured against those who were there.
    assert [d.verdict for d in curve(hyperband, 3, [1.5])] == ["stop"]
    assert [d.verdict for d in curve(hyperband, 4, [0.5])] == ["continue"]


# --- median by example ---


def test_median_compares_the_best_so_far_with_the_others_averages():
    median = scheduler("median", min_trials=3, first_rung=2, max_epochs=4)
    assert median.milestones(0) == (2, 3)
    for trial, losses in enumerate([[4.0, 2.0, 1.0, 1.0], [6.0, 4.0, 2.0, 2.0], [8.0, 6.0, 4.0, 4.0]]):
        assert all(d.verdict == "continue" and d.cutoff is None for d in curve(median, trial, losses))
    # Averages after epoch 2: 3, 5, 7. The median is 5.
    assert median.report(3, 1, 5.5) is None
    second = median.report(3, 2, 5.2)  # its best is 5.2
    assert second is not None
    assert (second.verdict, second.cutoff, second.num_values) == ("stop", 5.0, 3)
    median.report(4, 1, 5.0)
    third = median.report(4, 2, 100.0)  # now worse, but its best is 5; the others' averages are 3, 5, 5.35, 7
    assert third is not None
    assert (third.verdict, third.cutoff) == ("continue", pytest.approx(5.175))


def test_none_stops_nothing_but_what_is_not_finite():
    none = scheduler("none")
    assert none.milestones(0) == ()
    assert none.report(0, 1, 1e300) is None
    decision = none.report(0, 2, math.inf)
    assert decision is not None
    assert decision.verdict == "stop"


# --- audit ---


def test_about_the_audit_share_of_the_stopped_goes_on():
    asha = scheduler(audit_share=0.2, seed=7)
    decisions = [curve(asha, trial, [float(trial)])[0] for trial in range(1000)]  # each worse than all before
    audited = [d.trial for d in decisions if d.audited]
    assert {d.verdict for d in decisions if d.audited} == {"continue"}
    assert len(audited) == pytest.approx(200, abs=40)
    assert audited == [t for t in range(1, 1000) if asha.settings.audits(t)]
    other = SchedulerSettings(max_epochs=9, audit_share=0.2, seed=8)
    assert audited != [t for t in range(1, 1000) if other.audits(t)]


@pytest.mark.parametrize("kind", ["asha", "asha_promotion", "hyperband", "median"])
def test_what_audited_trials_report_later_is_recorded_and_changes_nothing(kind):
    plain, audited = (scheduler(kind, audit_share=s, seed=3, min_trials=2, max_epochs=12) for s in (0.0, 0.4))
    losses = {trial: [math.sin(trial * 7 + epoch * 2) + trial % 5 for epoch in range(1, 13)] for trial in range(60)}
    stopped = {}
    for name, it in (("plain", plain), ("audited", audited)):
        ends, queue = {}, [(trial, 0) for trial in range(60)]
        while queue:
            trial, done = queue.pop(0)
            it.start(trial)
            for epoch in range(done + 1, 13):
                # What an audited trial does later is better than anything else.
                under_audit = any(ends.get((trial, e)) == "audited" for e in range(1, epoch))
                decision = it.report(trial, epoch, -1000.0 if under_audit else losses[trial][epoch - 1])
                for told in ([decision] if decision else []) + it.released():
                    ends[told.trial, told.epoch] = "audited" if told.audited else told.verdict
                    if told.verdict == "promote":
                        queue.append((told.trial, told.epoch))
                if decision is not None and decision.verdict in ("stop", "pause"):
                    break
            else:
                it.end(trial)
            if not queue:
                for told in it.close():
                    ends[told.trial, told.epoch] = "audited" if told.audited else told.verdict
                    if told.verdict == "promote":
                        queue.append((told.trial, told.epoch))
        stopped[name] = ends
    without = stopped["plain"]
    first_audit = {}
    for (trial, epoch), verdict in sorted(stopped["audited"].items()):
        if verdict == "audited":
            first_audit.setdefault(trial, epoch)
    assert first_audit
    for (trial, epoch), verdict in stopped["audited"].items():
        if trial not in first_audit or epoch < first_audit[trial]:
            assert without[trial, epoch] == verdict
        elif epoch == first_audit[trial]:
            assert without[trial, epoch] == "stop"
        else:
            assert verdict == "audited"
            assert (trial, epoch) not in without


def test_an_audited_trial_stays_audited_when_another_attempt_reports_its_rung_again():
    asha = scheduler(audit_share=1.0)
    asha.report(0, 1, 1.0)
    first, again = asha.report(1, 1, 2.0), asha.report(1, 1, 0.5)
    assert first is not None
    assert again is not None
    assert (first.audited, again.audited) == (True, True)
    later = asha.report(1, 3, -5.0)
    assert later is not None
    assert (later.verdict, later.audited, later.num_values) == ("continue", True, 0)


# --- what holds for all ---


@st.composite
def histories(draw):
    """Events as a conductor would send them: trials in turns, lost attempts, failures, values not finite."""
    kind = draw(st.sampled_from(KINDS))
    options = {
        "reduction": draw(st.sampled_from([2, 3, 4])),
        "first_rung": draw(st.integers(1, 3)),
        "max_epochs": draw(st.integers(3, 9)),
        "audit_share": draw(st.sampled_from([0.0, 0.3, 1.0])),
        "min_trials": draw(st.integers(1, 3)),
    }
    steps = draw(
        st.lists(
            st.tuples(
                st.integers(0, 11),
                st.sampled_from(["epoch"] * 8 + ["lost", "failed"]),
                st.one_of(LOSSES, LOSSES, st.sampled_from([math.nan, math.inf])),
            ),
            max_size=80,
        )
    )
    return kind, options, steps


def drive(it, steps, close=True):
    """Runs a history; returns the events that a ledger would hold, and all decisions."""
    at, over, paused, events, told = {}, set(), set(), [], []

    def take(decisions):
        for d in decisions:
            told.append(d)
            events.append(("decision", d))
            paused.discard(d.trial)
            if d.verdict == "stop":
                over.add(d.trial)
            if d.verdict == "pause":
                paused.add(d.trial)

    for trial, what, loss in steps:
        if trial in over or trial in paused:
            continue
        if trial not in at:
            at[trial] = 0
            it.start(trial)
            events.append(("start", trial))
        if what == "lost":
            at[trial] = max(0, at[trial] - 2)  # its checkpoint is two epochs old
            continue
        if what == "failed":
            over.add(trial)
            it.end(trial)
            events.append(("end", trial))
            take(it.released())
            continue
        at[trial] += 1
        events.append(("report", trial, at[trial], loss))
        decision = it.report(trial, at[trial], loss)
        take([decision] if decision else [])
        take(it.released())
        if trial not in over and trial not in paused and at[trial] >= it.settings.max_epochs:
            over.add(trial)
            it.end(trial)
            events.append(("end", trial))
            take(it.released())
    if close:
        for trial in sorted(at.keys() - over - paused):
            over.add(trial)
            it.end(trial)
            events.append(("end", trial))
            take(it.released())
        take(it.close())
    return events, told, paused


def replayed(settings, events):
    it = create(settings)
    for event in events:
        match event:
            case ("start", trial):
                it.start(trial)
            case ("report", trial, epoch, loss):
                it.report(trial, epoch, loss)
            case ("end", trial):
                it.end(trial)
            case ("decision", decision):
                it.recorded(decision)
    return it


@settings(max_examples=150)
@given(histories())
def test_replay_gives_the_same_state_and_leaves_nothing_to_say(history):
    kind, options, steps = history
    it = scheduler(kind, **options)
    half = len(steps) // 2
    events, _, _ = drive(it, steps[:half])
    # The sweep came to its end, and was then extended by more trials.
    more, _, _ = drive(it, [(trial + 12, what, loss) for trial, what, loss in steps[half:]], close=False)
    again = replayed(it.settings, [*events, *more])
    assert again.released() == []
    assert json.loads(json.dumps(again.state())) == again.state()
    assert repr(again.state()) == repr(it.state())


@settings(max_examples=60)
@given(histories(), st.sampled_from([0.0, 1.0]))
def test_verdicts_that_are_recorded_stand_under_other_settings(history, share):
    kind, options, steps = history
    it = scheduler(kind, **options)
    events, told, _ = drive(it, steps)
    again = replayed(replace(it.settings, audit_share=share), events)
    last = {d.trial: d for d in told}
    for trial, decision in last.items():
        if decision.verdict == "stop" and math.isfinite(decision.value):
            assert again.state()["members"][str(trial)]["status"] == "stopped"
            assert again.state()["members"][str(trial)]["audited_at"] is None


@settings(max_examples=100)
@given(histories())
def test_nobody_waits_once_closed_and_nothing_but_finite_values_goes_on(history):
    kind, options, steps = history
    it = scheduler(kind, **options)
    _, told, paused = drive(it, steps)
    for decision in told:
        if decision.verdict in ("continue", "promote", "pause"):
            assert math.isfinite(decision.value)
        assert decision.cutoff is None or math.isfinite(decision.cutoff)
    while paused or any(m["status"] == "running" for m in it.state()["members"].values()):
        going = [int(t) for t, m in it.state()["members"].items() if m["status"] == "running"]
        assert going, f"{paused} wait for nobody"
        for trial in going:  # those that were promoted fail
            it.end(trial)
        for decision in it.released():
            if decision.verdict == "stop":
                paused.discard(decision.trial)
    assert all(m["status"] in ("stopped", "ended") for m in it.state()["members"].values())


@settings(max_examples=100)
@given(st.sampled_from(["asha", "median"]), st.lists(LOSSES, min_size=1, max_size=40), st.sampled_from([2, 3.5, 4]))
def test_the_best_so_far_is_never_stopped(kind, losses, reduction):
    it = scheduler(kind, reduction=reduction, min_trials=1)
    for trial, loss in enumerate(losses):
        decision = it.report(trial, 1, loss)
        assert decision is not None
        if loss <= min(losses[: trial + 1]):
            assert decision.verdict == "continue"


@settings(max_examples=60)
@given(st.lists(LOSSES, min_size=9, max_size=9, unique=True), st.permutations(range(9)), st.permutations(range(9)))
def test_hyperband_does_not_mind_who_comes_first(losses, one, other):
    ends = []
    for order in (one, other):
        it = scheduler("hyperband")
        for trial in range(9):
            it.start(trial)
        found = {}
        for trial in order:
            decision = it.report(trial, 1, losses[trial])
            assert decision is not None
            for told in (decision, *it.released()):
                found[told.trial] = told.verdict == "stop"
        ends.append((found, it.state()))
    assert ends[0] == ends[1]


@settings(max_examples=60)
@given(st.lists(LOSSES, min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_the_rungs_of_asha_do_not_depend_on_the_order_of_the_reports(losses, random):
    order = list(range(len(losses)))
    states = []
    for _ in range(2):
        it = scheduler()
        for trial in order:
            it.report(trial, 1, losses[trial])
        states.append(it.state()["rungs"])
        random.shuffle(order)
    assert states[0] == states[1]


@pytest.mark.parametrize("kind", ["asha", "asha_promotion", "hyperband"])
@pytest.mark.parametrize("reduction", [2, 3, 4])
def test_the_share_that_goes_on_tends_to_one_in_reduction(kind, reduction):
    it = scheduler(kind, reduction=reduction, max_epochs=reduction**6 + 1 if kind == "hyperband" else reduction + 1)
    num = it.start(0) + (reduction**6 if kind == "hyperband" else 3000)  # of Hyperband about the first bracket
    going = 0
    for trial in range(num):
        it.start(trial)
        decision = it.report(trial, 1, math.sin(trial * trial * 12.9898) * 43758.5453 % 1)
        assert decision is not None
        going += sum(d.verdict in ("continue", "promote") for d in (decision, *it.released()))
    going += sum(d.verdict == "promote" for d in it.close())
    assert going / num == pytest.approx(1 / reduction, rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_an_epoch_below_1_is_refused(kind):
    with pytest.raises(ValueError, match="epoch: got 0, expected a number from 1"):
        scheduler(kind).report(0, 0, 1.0)
