#!/bin/bash
# On one node, or each member of an array on its own:  sbatch slurm_test.sh task_list.txt
#                                                      sbatch --array=1-4 slurm_test.sh task_list.txt
#SBATCH --nodes=1
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@60
exec pytaskfarmer.py --requeue "$1"
