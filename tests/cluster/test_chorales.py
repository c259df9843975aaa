"""Real models on real chorales, sent from the laptop through the tunnel; the laptop goes away and comes back."""

import json
import re
import sys
import time
from pathlib import Path

from tests.cluster.lab_sweeps import LabSweep


def test_a_sweep_of_chorales_is_sent_and_comes_back_with_its_model(cluster, tunnel, say):
    sweep = LabSweep(cluster, "chorales")
    log = cluster.lab.folder / "sent.log"
    began = time.monotonic()
    sent = cluster.start_in_tree(f"search run sweeps/lab/chorales.toml --address {tunnel}", log)
    while "runs on the cluster as job" not in (said := log.read_text()):
        assert sent.poll() is None, said
        assert time.monotonic() - began < 120, said
        time.sleep(0.2)
    say(f"a sweep of chorales was sent within {time.monotonic() - began:.0f} s; the laptop turns away")
    cluster.laptop.run("pkill -KILL -f '[b]in/search run'")
    sent.wait(20)

    results = str(Path(sys.executable).with_name("results"))
    job = re.search(r"runs on the cluster as job ([\w-]+)", said)
    assert job, said
    while True:
        done = cluster.in_tree(f"ray job status --address {tunnel} {job[1]}").stdout
        if f"{job[1]}' succeeded" in done:
            break
        logs = f"tail -50 /tmp/ray/session_latest/logs/job-driver-{job[1]}.log"
        assert not re.search("' failed|was stopped", done), cluster.head.run(logs).stdout
        assert time.monotonic() - began < 600, done
        time.sleep(2)
    say(f"the sweep of chorales has its model after {time.monotonic() - began:.0f} s")
    books = sweep.books()
    assert (books["accounted"], books["duplicates"], books["problems"]) == (2, 0, [])
    assert {end["node"] for end in books["ends"]} <= {"w1", "w2"}
    shown = json.loads(cluster.laptop.here(results, "top", sweep.uri, "--finals", "--json"))
    assert shown
    cluster.laptop.here(results, "check", sweep.uri)
