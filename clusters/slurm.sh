#!/bin/bash
# A Ray cluster for the length of one Slurm job: the first node is the head and runs no trials, the others run them.
#
# Costs an hour, as of November 2026: what your site charges for FOUR workers with one GPU each and one head node; at a common
# 1 to 2 EUR a GPU hour, 4 to 8 EUR.
#
# Fill in what says FILL-IN: account, partition, and a folder that all nodes share (Lustre, NFS, GPFS; or an s3:// URI).
# The working tree, with `make install EXTRAS=jax` done in it and NVIDIA's packages added
# (`.venv/bin/uv pip install -c constraints.txt 'jax[cuda12]==0.10.2'`), lies on such a folder too; submit from it.
# `search cluster check clusters/slurm.sh` says whether all is well.
#
# Four commands, in the folder of the project:
#   sbatch clusters/slurm.sh            queues the sweep; queue it again, and it goes on where it was
#   squeue --me                         shows whether it runs, and on which nodes
#   .venv/bin/search status FILL-IN/gpu shows how the sweep stands, from any node
#   scancel --signal=TERM --batch JOB   finishes the epochs that run, saves and ends

#SBATCH --job-name=chorale-search
#SBATCH --account=FILL-IN
#SBATCH --partition=FILL-IN
#SBATCH --nodes=5
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@300

set -euo pipefail
STORAGE=FILL-IN
SWEEP=${SWEEP:-sweeps/gpu.toml}
PORT=$((20000 + SLURM_JOB_ID % 20000))     # jobs of several people may share a node

# A token of this job's own, which nobody else can read. It lies in a file: the environment shows in process lists.
umask 077
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$PWD/.cache/ray/auth_token-$SLURM_JOB_ID" RAY_USAGE_STATS_ENABLED=0
mkdir -p "$(dirname "$RAY_AUTH_TOKEN_PATH")"
.venv/bin/python -c 'import secrets; print(secrets.token_hex(32), end="")' > "$RAY_AUTH_TOKEN_PATH"
trap 'rm -f "$RAY_AUTH_TOKEN_PATH"' EXIT
export PATH="$PWD/.venv/bin:$PATH"

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
address=$(srun --nodes=1 --ntasks=1 -w "$head" hostname -I | awk '{ print $1 }')

srun --nodes=1 --ntasks=1 -w "$head" \
    ray start --head --num-cpus=0 --num-gpus=0 --node-ip-address="$address" --port="$PORT" --dashboard-host=127.0.0.1 --block &
sleep 20
srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks-per-node=1 --exclude="$head" \
    ray start --address="$address:$PORT" --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus=1 --block &
sleep 20

# The script's own shell runs on the head node, so the driver does.
# Five minutes before the end: finish the epochs that run, save and end. (Bash has background jobs ignore INT.)
trap 'kill -TERM $!' INT TERM
search run "$SWEEP" --go-on --address "$address:$PORT" --storage "$STORAGE" &
driver=$!
status=0
while kill -0 "$driver" 2>/dev/null; do wait "$driver" && status=0 || status=$?; done
exit "$status"
