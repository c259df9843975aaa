"""What a driver does when it is asked to end."""

import signal

import pytest

from results.ledger import Ledger
from search.interrupts import finishing, terminable
from search.lock import held_by
from tests.search import faults


def test_sigterm_does_what_ctrl_c_does_and_only_inside():
    former = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), terminable():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is former


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_once_it_finishes_and_twice_it_ends(number):
    asked = []

    def stop():
        asked.append(number)
        return len(asked) == 1

    with terminable(), finishing(stop):
        signal.raise_signal(number)
        assert len(asked) == 1
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert len(asked) == 2


@pytest.mark.slow
def test_sigterm_ends_a_final_job_in_order_and_it_goes_on(tmp_path):
    with faults.Cluster() as cluster:
        subject = faults.Subject(cluster, tmp_path, trials=2, epochs=100, epoch_s=0.3, every_s=0.3, scheduler="none")
        subject.brake.unlink()
        assert subject.finish() == 0
        subject.brake.touch()
        words = ("final", subject.place.uri, "--models", "1", "--seeds", "1", "--address", cluster.address)
        so_far = subject.trained
        driver = subject.start(*words)
        assert subject.wait_for_epochs(so_far + 3, driver=driver), subject.said
        assert held_by(subject.place) is not None
        driver.send_signal(signal.SIGTERM)
        assert driver.wait(120) == 130, subject.said
        assert held_by(subject.place) is None
        assert "Stopped." in subject.said
        assert Ledger(subject.place).table("finals").num_rows == 0
        subject.wait_for_ends(subject.processes())
        before = subject.trained
        subject.brake.unlink()
        assert subject.start(*words).wait(240) == 0, subject.said
        assert subject.trained - before < 100  # from its checkpoint
        assert Ledger(subject.place).table("finals").num_rows == 1
        assert "Traceback" not in subject.said
