"""An owner on another host is dead when nobody holds its presence and its counter stands still, as seen by one awake."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Iterator

import pytest

from taskfarmer.system.presence import Presence, is_held
from taskfarmer.system.vigil import Vigil

pytestmark = pytest.mark.quick
SPACING = 3.0


@pytest.fixture
def alive(tmp_path: Path) -> str:
    """The file of an owner that has died."""
    path = str(tmp_path / "alive")
    presence = Presence(path, create=True)
    presence.beat()
    presence.close()
    return path


@pytest.fixture
def vigil(alive: str) -> Iterator[Vigil]:
    watching = Vigil(alive, window=10 * SPACING)
    yield watching
    watching.close()


def looks(vigil: Vigil, times: int, start: float = 100.0, every: float = SPACING) -> list[bool]:
    """What the vigil says when it is asked so often, so many seconds apart."""
    return [vigil.proves_death(start + number * every) for number in range(times)]


def move(alive: str) -> None:
    """What its farmer does every few seconds."""
    count = int(Path(alive).read_text().split()[0])
    Path(alive).write_text(f"{count + 1:020d} {0:020d} {0:020d} 0\n")


def test_silence_for_the_whole_window_is_death(vigil: Vigil) -> None:
    assert looks(vigil, 11) == [False] * 10 + [True]


def test_looking_more_often_does_not_make_it_shorter(vigil: Vigil) -> None:
    said = looks(vigil, 101, every=0.3)
    assert not any(said[:100]) and said[100]


def test_an_owner_whose_presence_is_held_is_not_dead_however_silent(alive: str, vigil: Vigil) -> None:
    worker = Presence(alive)
    assert not any(looks(vigil, 50)) and not vigil.has_begun
    worker.close()
    assert looks(vigil, 11, start=1000.0)[-1]


def test_one_who_needs_longer_to_end_its_tasks_is_given_longer(tmp_path: Path) -> None:
    path = str(tmp_path / "alive")
    presence = Presence(path, create=True, window=20 * SPACING)
    presence.beat()
    presence.close()
    vigil = Vigil(path, 10 * SPACING)
    said = looks(vigil, 30)
    assert not any(said[:19]) and said[-1]
    vigil.close()


def test_a_sign_of_life_begins_it_again(alive: str, vigil: Vigil) -> None:
    looks(vigil, 9)
    move(alive)
    assert not any(looks(vigil, 10, start=100.0 + 9 * SPACING))


def test_a_silent_farmer_is_known_though_its_workers_live(alive: str) -> None:
    worker = Presence(alive)
    vigil = Vigil(alive, 10 * SPACING, alone=False)
    assert looks(vigil, 11) == [False] * 10 + [True]
    move(alive)
    assert looks(vigil, 1, start=100.0 + 11 * SPACING) == [False]
    worker.close()


def test_an_observer_that_slept_begins_again(vigil: Vigil) -> None:
    """A counter that has not moved while we were asleep ourselves says nothing."""
    looks(vigil, 9)
    assert not any(looks(vigil, 10, start=1000.0))
    assert looks(vigil, 1, start=1000.0 + 10 * SPACING) == [True]


def test_the_presence_stays_held_while_it_is_watched(alive: str, vigil: Vigil) -> None:
    """Or the owner might come back between the last look and the takeover; and others would watch, too."""
    looks(vigil, 3)
    assert vigil.has_begun and is_held(alive)
    other = Vigil(alive, 10 * SPACING)
    assert not any(looks(other, 20)) and not other.has_begun
    vigil.close()
    assert not is_held(alive)


def test_an_owner_without_a_presence_is_dead_after_the_window(tmp_path: Path) -> None:
    vigil = Vigil(str(tmp_path / "nobody" / "alive"), 10 * SPACING)
    assert looks(vigil, 11) == [False] * 10 + [True]


def test_an_owner_that_was_about_to_show_itself_is_not_watched_any_more(tmp_path: Path) -> None:
    vigil = Vigil(str(tmp_path / "alive"), 10 * SPACING)
    assert not any(looks(vigil, 2)) and vigil.has_begun and not vigil.finds_silence
    presence = Presence(str(tmp_path / "alive"), create=True)
    assert not any(looks(vigil, 50, start=200.0)) and not vigil.has_begun
    presence.close()


def test_without_locks_the_silence_must_last_four_times_as_long(
    alive: str, vigil: Vigil, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(fd: int, operation: int) -> None:
        raise OSError(37, os.strerror(37))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    said = looks(vigil, 50)
    assert not any(said[:40]) and said[-1]


def test_without_locks_only_one_whose_counter_stands_still_is_silent(alive: str) -> None:
    """To have the presence of a living owner means nothing there: two that are out of work would wait for each other."""
    vigil = Vigil(alive, 10 * SPACING, locks_exclude=False)
    for number in range(20):
        move(alive)
        assert not looks(vigil, 1, start=100.0 + 4 * SPACING * number)[0] and not vigil.finds_silence
        assert vigil.is_in_doubt is (number == 0), "until it was seen to move"
    said = looks(vigil, 20, start=1000.0, every=4 * SPACING)
    assert vigil.finds_silence and said.index(True) == 10
