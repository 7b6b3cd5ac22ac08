"""The killer: farmers of one host on one workdir, killed, stalled and stopped at random, until a promise breaks.

    python -m tests.killer --kills 2000 --seed 7          the campaign: rounds of forty kills, each a farm of its own

tasks.py      what the tasks do, and the side effects by which they are counted
farm.py       a farm: its growing list, the verbs that are run beside its farmers, what was found wrong
programs.py   the program as it is run on this host
crew.py       the farmers, started again when they end or die
attacks.py    the plan: what is to be hit, how and when; the same seed gives the same plan
moments.py    the moments that attacks wait for
sight.py      what a farmer is doing at the moment it is hit
strikes.py    carries an attack out; hit.py: what it writes down of it
lasting.py    what is to be undone after a while
processes.py  the processes of this host
killer.py     carries a plan out with these
oracle.py     what must be true afterwards
reasons.py    why a task may have run again
rounds.py     all this together, and what was hit, counted
nodes/        the same over the three nodes of a real Slurm, with power cuts
"""
