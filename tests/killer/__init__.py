"""The killer: farmers of one host on one workdir, killed, stalled and stopped at random, until a promise breaks.

    python -m tests.killer --kills 2000 --seed 7          the campaign: rounds of forty kills, each a farm of its own

tasks.py    what the tasks do, and the side effects by which they are counted
farmers.py  the farmers, and what can be seen of them from outside
attacks.py  the plan: what is to be hit, how and when; the same seed gives the same plan
killer.py   carries a plan out, and keeps a log of what it hit
oracle.py   what must be true afterwards
reasons.py  why a task may have run again
rounds.py   all this together, and what was hit, counted
nodes/      the same over the three nodes of a real Slurm, with power cuts
"""
