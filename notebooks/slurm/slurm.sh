#!/usr/bin/env bash
# Train one run on several nodes, and go on after a node dies or the time is up.
#
#   sbatch notebooks/slurm/slurm.sh ms1m-infonce global_batch=32768 gather=true chunk=512
#   sbatch --nodes=4 notebooks/slurm/slurm.sh ms1m-arcface sharded=true global_batch=2688
#   sbatch --nodes=1 notebooks/slurm/slurm.sh runs/ms1m-arcface-0123abcd
#
# Arguments: a preset, then settings as in `python -m facelib train --set`; or the folder of such a
# run, which goes on with the nodes there are (the batch must divide by their GPUs: 2688 divides by
# 8, 16, 24 and 32). Other nodes with a preset are another run, from its start. The repository, its
# environment, FACELIB_DATA and FACELIB_RUNS must be on a disk that all nodes share. Edit the lines
# below for your cluster: partition, account, GPUs and cores a node.
#SBATCH --job-name=facelib
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@180
#SBATCH --output=facelib-%j.log
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"
python=${FACELIB_PYTHON:-.venv/bin/python}
preset=${1:?write: sbatch notebooks/slurm/slurm.sh PRESET [KEY=VALUE ...], or RUN_FOLDER}
shift

nodes=${SLURM_JOB_NUM_NODES:-1}
# CPU processes where a job has no GPU: set FACELIB_PER_NODE.
per_node=${FACELIB_PER_NODE:-${SLURM_GPUS_ON_NODE:-8}}
head=$(scontrol show hostnames "${SLURM_JOB_NODELIST:-localhost}" | head -n 1)
port=$((20000 + ${SLURM_JOB_ID:-0} % 20000))

# The same preset and settings are the same run folder: a requeued job resumes it. elastic=true lets
# another number of processes go on with it, so that a lost node does not end the run.
if [[ -f $preset/config.json ]]; then
    run=$preset
else
    run=$("$python" -m facelib train --preset "$preset" --create \
        --set elastic=true processes=$((nodes * per_node)) "$@")
fi
before=$(cat "$run/status.json" 2>/dev/null || true)

# Without this the restarted processes look for the dead ones' addresses (pytorch issue 135712).
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
code=0
srun ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} \
    "$python" -m torch.distributed.run --shutdown-timeout 150 \
    --nnodes "1:$nodes" --nproc-per-node "$per_node" --max-restarts 3 \
    --rdzv-backend c10d --rdzv-endpoint "$head:$port" --rdzv-id "${SLURM_JOB_ID:-facelib}" \
    -m facelib.training.train "$run" || code=$?

# SIGTERM, three minutes before the end, leaves a checkpoint: come again for the rest. A turn that
# died before it trained leaves the status of the turn before, and must not come again for ever.
if [[ $(cat "$run/status.json") != "$before" ]] && grep -q '"state": "stopped"' "$run/status.json"
then
    scontrol requeue "${SLURM_JOB_ID:?}"
    exit 0
fi
exit "$code"
