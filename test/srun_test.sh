#!/bin/bash
# One farmer on each of several nodes:  sbatch --nodes=4 srun_test.sh task_list.txt
#SBATCH --exclusive
#SBATCH --no-kill
#SBATCH --signal=USR1@60
srun --no-kill --ntasks-per-node=1 --cpus-per-task=$SLURM_CPUS_ON_NODE --kill-on-bad-exit=0 --wait=0 pytaskfarmer.py "$1" -n
