"""Two users of one group and one workdir: one dies at a step, at any, of what it does with the files, the other goes on."""

from __future__ import annotations

import hashlib  # noqa: F401  (loaded while we are root: the users may not be able to read it)
import json  # noqa: F401
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Callable, Iterator, NamedTuple

import pytest
from forked import BROKEN, SURVIVED, dying_at, folder_in_memory, in_child
from textfarm import TextFarm, ended, finished, work_off

from taskfarmer.model import Outcome

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start processes of several users")

GROUP = 61000
CASES = [(verb, umask) for verb in ("load", "join", "exchange", "retry", "recover") for umask in (0o022, 0o077)]
QUICK = [("exchange", 0o077)]


class User(NamedTuple):
    """Somebody of the group."""

    id: int
    umask: int

    def become(self) -> None:
        """In a forked child: be this user."""
        os.setgroups([])
        os.setgid(GROUP)
        os.setuid(self.id)
        os.umask(self.umask)
        assert os.geteuid() == self.id != 0


@pytest.fixture
def group_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder as groups have them: what is made in it is the group's."""
    with folder_in_memory(tmp_path) as folder:
        folder.chmod(0o755)
        yield folder


def as_user(user: User, work: Callable[[], object]) -> int:
    """Do it in a forked child as this user."""

    def as_them() -> None:
        user.become()
        work()

    return in_child(as_them)


@pytest.mark.parametrize(
    ("verb", "umask"),
    [pytest.param(*case, marks=pytest.mark.quick if case in QUICK else pytest.mark.components) for case in CASES],
    ids=[f"{verb}, umask {umask:03o}" for verb, umask in CASES],
)
def test_at_whatever_step_one_user_dies_the_other_goes_on(group_folder: Path, verb: str, umask: int) -> None:
    anna, bert = User(62001, umask), User(62002, umask)
    number = 0
    status = BROKEN
    while status != SURVIVED:
        number += 1
        folder = group_folder / f"{verb}_{number}"
        folder.mkdir()
        os.chown(folder, 0, GROUP)
        folder.chmod(0o2775)
        farm = TextFarm(folder)
        farm.write(b"".join(b"echo %d\n" % id for id in range(6)))
        if verb != "load":
            assert as_user(anna, farm.reload) == SURVIVED
        if verb in ("retry", "recover"):
            assert as_user(bert if verb == "recover" else anna, partial(fail_two, farm, verb == "retry")) == SURVIVED
        status = as_user(anna, partial(die_in, farm, verb, number))
        if status == BROKEN:
            pytest.fail(f"{verb}, step {number}: it did not get so far")
        # The founder's first steps are the founder's own to do again, if bert says whose file stands in the way.
        if verb == "load" and as_user(bert, farm.reload) != SURVIVED:
            assert not (farm.path / "farm.json").exists() or not (farm.path / "farm.json").read_bytes()
            assert as_user(anna, farm.reload) == SURVIVED
        assert as_user(bert, farm.reload) == SURVIVED, f"{verb}, step {number}"
        assert as_user(bert, partial(work_off, farm)) == SURVIVED, f"{verb}, step {number}"
        assert sorted(farm.standing()) == list(range(6)), f"{verb}, step {number}"
        shutil.rmtree(folder)
    print(f"{verb}: died at {number - 1} steps")
    assert number > 5


def fail_two(farm: TextFarm, settled: bool) -> None:
    """Two tasks are claimed; they end and are settled, or stay claimed by a dead one."""

    store = farm.open()
    store.join(1)
    claims = store.exchange([], 2).claims
    if settled:
        store.exchange([ended(claim, Outcome.FAILED, 1) for claim in claims], 0)
        store.leave()


def die_in(farm: TextFarm, verb: str, number: int) -> None:
    """Die at the n-th change of a file while doing this."""
    if verb == "load":
        dying_at(number).armed = True
        farm.reload()
        return
    store = farm.open()
    calls = dying_at(number)
    if verb in ("join", "exchange"):
        calls.armed = verb == "join"
        store.join(2)
        calls.armed = True
        claims = store.exchange([], 2).claims
        store.exchange(finished(claims), 2)
    elif verb == "retry":
        calls.armed = True
        store.requeue(None)
    else:
        store.join(1)
        calls.armed = True
        store.recover()
