"""`clusters/slurm.sh`, run by bash with stand-ins for Slurm's commands."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "clusters" / "slurm.sh"
DRIVER = """#!{python}
import pathlib, signal, sys, time
def end(signum, frame):
    pathlib.Path("asked").write_text("once")
    sys.exit(130)
signal.signal(signal.SIGTERM, end)
pathlib.Path("began").write_text(" ".join(sys.argv[1:]))
time.sleep(300)
"""
STAND_INS = {
    "scontrol": "printf 'one\\ntwo\\n'",
    "srun": 'echo "$@" >> srun.txt; case "$*" in *"hostname -I"*) echo 10.0.0.1 10.0.0.2 ;; esac',
    "sleep": ":",
}


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_driver_is_asked_to_end_when_the_job_is_about_to(tmp_path, number):
    commands = tmp_path / ".venv" / "bin"
    commands.mkdir(parents=True)
    (commands / "python").symlink_to(sys.executable)
    for name, text in {"search": DRIVER.format(python=sys.executable), **STAND_INS}.items():
        (commands / name).write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}\n")
        (commands / name).chmod(0o755)
    slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "x", "SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_PER_TASK": "8"}
    env = os.environ | slurm | {"PATH": f"{commands}:{os.environ['PATH']}"}
    process = subprocess.Popen(["bash", SCRIPT], cwd=tmp_path, env=env)
    began, until = tmp_path / "began", time.monotonic() + 120
    while not (began.exists() and began.read_text()):
        assert process.poll() is None, "it has ended before the driver began"
        assert time.monotonic() < until, "the driver has not begun"
        time.sleep(0.05)
    assert began.read_text().startswith("run sweeps/gpu.toml --go-on --address 10.0.0.1:20007")
    token = tmp_path / ".cache" / "ray" / "auth_token-7"
    assert token.stat().st_mode & 0o777 == 0o600
    process.send_signal(number)
    assert process.wait(120) == 130
    assert (tmp_path / "asked").exists()
    assert not token.exists()
    assert "RAY_AUTH" not in (tmp_path / "srun.txt").read_text()
