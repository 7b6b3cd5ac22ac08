"""The killer on the three nodes of a real Slurm: farms of the shipped scripts, and what happens to nodes and to jobs.

    python -m tests.killer --nodes 3 --kills 200 --seed 7

attacks.py  the plan: power cuts, scancel, suspended jobs, and the signals of the killer of one host
witness.py  who was started on the nodes and how each of them ended: not what we meant, what the kernel says
jobs.py     the jobs that a round keeps going
aims.py     waits for the moment that an attack wants
strikes.py  strikes, and undoes what is for a while only
log.py      what was done, to whom and when
ends.py     how farmers may end
killer.py   carries a plan out with these
reasons.py  why a task may have run again here
rounds.py   one round, and what was hit, counted
"""
