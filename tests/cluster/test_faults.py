"""What may happen to a cluster happens to it, and the sweep comes out the same."""

import itertools
import sys
import time
from pathlib import Path

from tests.cluster.lab_sweeps import SLOTS, LabSweep
from tests.cluster.ray_cluster import ALL

RESULTS = str(Path(sys.executable).with_name("results"))


def sound(sweep):
    """The books of a sweep that has come to its end with all trials, none of them twice, and knows the best."""
    assert sweep.wait() == 0, sweep.said
    assert "Traceback" not in sweep.said
    books = sweep.books()
    assert (books["accounted"], books["duplicates"], books["problems"]) == (sweep.plan.trials, 0, [])
    assert books["best"] == books["really_best"]
    assert [chosen for *_, chosen in books["finals"]].count(True) == (sweep.plan.models > 0)
    sweep.cluster.laptop.here(RESULTS, "check", sweep.uri)
    return books


def come_out_the_same(sweep, undisturbed):
    """The books of a sweep whose trials and final trainings came to what they come to when nothing happens."""
    books = sound(sweep)
    assert books["outcome"] == undisturbed["outcome"]
    assert books["finals"] == undisturbed["finals"]
    return books


def in_full_swing(cluster, name):
    """Starts a sweep, and waits until all places are taken and each machine is in the middle of its trials."""
    sweep = LabSweep(cluster, name)
    sweep.start()
    sweep.wait_for(lambda notes: all(sweep.in_the_middle(notes, node) == SLOTS[node] for node in SLOTS))
    return sweep


def lost(sweep):
    """What was trained again, in words."""
    total, again, most = sweep.trained_again()
    wanted = sweep.plan.all_epochs
    assert total - again == wanted
    return "nothing" if not again else f"{again} of {wanted} epochs, at most {most} of a trial"


def lost_so_far(sweep):
    """What was trained again up to now, in words."""
    _, again, most = sweep.trained_again()
    return "nothing" if not again else f"{again} epochs, at most {most} of a trial"


def spread(back):
    """Seconds of several trials, in words."""
    return f"{min(back.values()):.0f} to {max(back.values()):.0f} s"


def longest_pause(notes, since):
    """The longest time in which no trial trained an epoch, in seconds."""
    times = [since, *(note.when for note in notes if note.when > since)]
    return max(later - earlier for earlier, later in itertools.pairwise(times)) / 1e9


def causes(books):
    """Why attempts ended that did not end well."""
    return sorted({end["reason_kind"] for end in books["ends"] if end["outcome"] == "lost"})


def test_a_sweep_sent_from_the_laptop_runs_on_all_machines(starting, undisturbed):
    assert undisturbed["accounted"] == 12
    assert undisturbed["duplicates"] == 0
    assert undisturbed["problems"] == []
    assert {end["node"] for end in undisturbed["ends"]} == {"w1", "w2"}
    assert {end["outcome"] for end in undisturbed["ends"]} == {"completed"}
    assert len(undisturbed["finals"]) == 2
    assert undisturbed["sessions"][0]["host"] == "head"


def test_a_worker_loses_its_power(cluster, undisturbed, table):
    sweep = in_full_swing(cluster, "power")
    fault = time.monotonic_ns()
    cluster.lab["w2"].power_off()
    missed_s = cluster.wait_for_nodes("head", "w1")
    books = come_out_the_same(sweep, undisturbed)
    back = sweep.recovery(fault, "w2")
    assert len(back) == SLOTS["w2"]
    assert causes(books) == ["node_lost"]
    table.add(
        "a worker loses its power",
        done="nothing",
        recovery=f"missed after {missed_s:.0f} s; its trials {spread(back)}",
        lost=lost(sweep),
    )


def test_a_worker_loses_its_power_in_the_final_job(cluster, undisturbed, table):
    sweep = LabSweep(cluster, "final")
    sweep.start()
    finals = {str(seed) for _, seed, *_ in undisturbed["finals"]}

    def in_the_middle(notes):
        notes = [note for note in notes if note.seed in finals]
        return [node for node in SLOTS if sweep.in_the_middle(notes, node)]

    node = in_the_middle(sweep.wait_for(in_the_middle))[0]
    fault = time.monotonic_ns()
    cluster.lab[node].power_off()
    missed_s = cluster.wait_for_nodes("head", "w2" if node == "w1" else "w1")
    come_out_the_same(sweep, undisturbed)
    back = sweep.recovery(fault, node)
    table.add(
        "a worker loses its power in the final job",
        done="nothing",
        recovery=f"missed after {missed_s:.0f} s; its trainings {spread(back)}",
        lost=lost(sweep),
    )


def test_a_worker_is_added(cluster, undisturbed, table):
    w2 = cluster.lab["w2"]
    w2.power_off()
    cluster.wait_for_nodes("head", "w1")
    sweep = LabSweep(cluster, "added")
    sweep.start()
    sweep.wait_for(lambda notes: len(notes) >= 4)
    began = time.monotonic_ns()
    w2.boot()
    notes = sweep.wait_for(lambda notes: any(note.node == "w2" for note in notes))
    took = min(note.when for note in notes if note.node == "w2") - began
    assert {note.node for note in notes if note.when < began} == {"w1"}
    books = sound(sweep)
    assert [row[4] for row in books["outcome"]] == [row[4] for row in undisturbed["outcome"]]  # trials are longer here
    table.add(
        "a worker is added",
        done="switched on",
        recovery=f"its first epoch after {took / 1e9:.0f} s",
        lost=lost(sweep),
    )


def test_a_cable_is_pulled_and_plugged_in(cluster, undisturbed, table):
    sweep = in_full_swing(cluster, "cable")
    w2 = cluster.lab["w2"]
    fault = time.monotonic_ns()
    there = {(note.seed, note.worker) for note in sweep.under_way(sweep.notes(), "w2")}
    w2.unplug()
    time.sleep(5)
    w2.plug()
    plugged = max(time.monotonic_ns(), fault + 6_000_000_000)

    def has_gone_on(notes):
        since = [note for note in notes if note.when > plugged]
        return there <= {(note.seed, note.worker) for note in since} and {note.node for note in since} == {"w1", "w2"}

    sweep.wait_for(has_gone_on)
    short = longest_pause([note for note in sweep.notes() if note.node == "w2"], fault)
    assert cluster.nodes() == set(ALL)
    table.add(
        "a cable is pulled for 5 s",
        done="plugged in",
        recovery=f"the machine's trials pause for {short:.0f} s",
        lost=lost_so_far(sweep),
    )

    sweep.wait_for(lambda notes: sweep.in_the_middle(notes, "w2") == SLOTS["w2"])
    fault = time.monotonic_ns()
    w2.unplug()
    missed_s = cluster.wait_for_nodes("head", "w1")
    w2.plug()
    joined_s = cluster.wait_for_nodes(*ALL)
    books = come_out_the_same(sweep, undisturbed)
    assert causes(books) == ["node_lost"]
    back = sweep.recovery(fault, "w2")
    assert len(back) == SLOTS["w2"]
    table.add(
        "a cable is pulled until the machine is missed",
        done="plugged in",
        recovery=f"missed after {missed_s:.0f} s; its trials {spread(back)}; plugged in, it joins in {joined_s:.0f} s",
        lost=lost(sweep),
    )


def test_the_driver_is_killed(cluster, undisturbed, table):
    sweep = in_full_swing(cluster, "driver")
    fault = time.monotonic_ns()
    sweep.kill_driver()
    assert sweep.wait() != 0
    sweep.resume()
    notes = sweep.wait_for(lambda notes: notes[-1].when > fault + 5e9)
    back_s = longest_pause(notes, fault)
    books = come_out_the_same(sweep, undisturbed)
    assert causes(books) == ["driver_lost"]
    table.add(
        "the driver is killed",
        done="`search resume` at once",
        recovery=f"first epoch after {back_s:.0f} s",
        lost=lost(sweep),
    )


def test_the_head_loses_its_power(cluster, undisturbed, table):
    sweep = in_full_swing(cluster, "head")
    head = cluster.lab["head"]
    fault = time.monotonic_ns()
    head.power_off()
    head.boot()
    cluster.up()
    cluster.wait_for_nodes(*ALL)
    up_s = (time.monotonic_ns() - fault) / 1e9
    resumed = time.monotonic_ns()
    sweep.resume()
    notes = sweep.wait_for(lambda notes: any(note.when > resumed + 5e9 for note in notes))
    first = min(note.when for note in notes if note.when > resumed)
    back_s = (first - resumed) / 1e9
    books = come_out_the_same(sweep, undisturbed)
    assert causes(books) == ["driver_lost"]
    table.add(
        "the head loses its power",
        done="switched on, `ray up`, `search resume`",
        recovery=f"all machines back after {up_s:.0f} s; first epoch {back_s:.0f} s after `search resume`",
        lost=lost(sweep),
    )


def test_the_storage_is_gone_for_a_while(cluster, undisturbed, table):
    sweep = in_full_swing(cluster, "storage")
    fault = time.monotonic_ns()
    cluster.lab["store"].unplug()
    time.sleep(30)
    cluster.lab["store"].plug()
    books = come_out_the_same(sweep, undisturbed)
    assert {end["outcome"] for end in books["ends"]} == {"completed"}
    pause = longest_pause(sweep.notes(), fault)
    table.add(
        "the storage is gone for 30 s",
        done="it came back",
        recovery=f"longest time without an epoch {pause:.0f} s",
        lost=lost(sweep),
    )


def test_a_clock_is_ten_minutes_off(cluster, undisturbed, table):
    w2 = cluster.lab["w2"]
    w2.power_off()
    cluster.wait_for_nodes("head", "w1")
    w2.boot(clock_s=600)
    cluster.wait_for_nodes(*ALL)
    code = "import time; print(time.time())"
    there = cluster.laptop.run(f"ssh -o StrictHostKeyChecking=no w2 'chorale-env/bin/python -c \"{code}\"'").stdout
    assert 500 < float(there.splitlines()[-1]) - time.time() < 700
    sweep = LabSweep(cluster, "clock")
    sweep.start()
    books = come_out_the_same(sweep, undisturbed)
    assert {end["node"] for end in books["ends"]} == {"w1", "w2"}
    assert max(end["wait_s"] for end in books["ends"]) < 60
    table.add("a worker's clock is ten minutes ahead", done="nothing", recovery="no pause", lost=lost(sweep))
