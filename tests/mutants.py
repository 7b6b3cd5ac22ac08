"""Planted defects: what our tests must be able to catch. Each is a change of a few characters in a copy of the package.

A mutant names the text that it replaces, which must stand exactly once in its file: one that has gone stale is loud.
`plant` copies the package, with one mutant in it, to a folder; with that folder in PYTHONPATH the real program runs it.

There is one for each call that syncs anything to disk (`LEFT_OUT`); `test_mutants.py` proves that none is forgotten.
"""

from __future__ import annotations

import compileall
import shutil
from pathlib import Path
from typing import NamedTuple

import taskfarmer

PACKAGE = Path(taskfarmer.__file__).parent


class Mutant(NamedTuple):
    """In `file`, below the package, `new` stands instead of `old`. `breaks` says what is no longer so."""

    name: str
    file: str
    old: str
    new: str
    breaks: str

    def __str__(self) -> str:
        return self.name


class Stale(AssertionError):
    """A mutant does not fit the source any more."""


def plant(mutant: Mutant, folder: Path) -> Path:
    """Copy the package to `folder` with this defect in it; returns what is to be put into PYTHONPATH."""
    shutil.copytree(PACKAGE, folder / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / PACKAGE.name / mutant.file
    path.write_text(mutated(mutant))
    compileall.compile_dir(folder, quiet=1)  # once, not at each start
    return folder


def mutated(mutant: Mutant) -> str:
    """The source of the mutant's file with the defect in it."""
    source = (PACKAGE / mutant.file).read_text()
    if source.count(mutant.old) != 1:
        raise Stale(
            f"{mutant.name}: {mutant.old!r} was expected once in {mutant.file}, found {source.count(mutant.old)}"
        )
    return source.replace(mutant.old, mutant.new)


_JOURNAL, _SECTION, _OWNERS = "stores/journal.py", "stores/section.py", "stores/owners.py"
_CLAIMS, _RECOVERY, _WAITING = "stores/claims.py", "stores/recovery.py", "stores/waiting.py"

PROTOCOL = [
    Mutant(
        "done before it is written down",
        _JOURNAL,
        "            self._write_record()\n            self._perform(author=True)\n",
        "            self._perform(author=True)\n            self._write_record()\n",
        "A writer that is killed in the middle leaves half of an exchange, and nothing that says what the other half is.",
    ),
    Mutant(
        "done before the journal is synced",
        _JOURNAL,
        "            files.write_all(self._fd, record, 0)\n            os.fsync(self._fd)\n",
        "            files.write_all(self._fd, record, 0)\n            self._perform(author=True)\n            os.fsync(self._fd)\n",
        "A power cut in the middle leaves half of an exchange, and a journal that is not whole.",
    ),
    Mutant(
        "names synced after the record",
        _JOURNAL,
        "            os.fsync(self._folder)\n            files.write_all(self._fd, record, 0)\n            os.fsync(self._fd)\n",
        "            files.write_all(self._fd, record, 0)\n            os.fsync(self._fd)\n            os.fsync(self._folder)\n",
        "A whole record swaps in a file without a name: that passes for done, and a list is loaded twice.",
    ),
    Mutant(
        "journal removed before it is done",
        _JOURNAL,
        "            self._perform(author=True)\n            self._remove_record()\n",
        "            self._remove_record()\n            self._check_still_mine = lambda: None\n            self._perform(author=True)\n",
        "A writer that is killed in the middle leaves half of an exchange.",
    ),
    Mutant(
        "token not checked by who takes over",
        _RECOVERY,
        "                    end = ends.get(held.token)\n",
        "                    end = ends.get(held.token) or next(iter(ends.values()), None)\n",
        "A task that was running when its owner died passes for one that had ended in the same slot before.",
    ),
    Mutant(
        "token not checked at the settle",
        _CLAIMS,
        "            if claim.token not in self._held:\n                if claim.token",
        "            if claim.token not in self._held:\n                self._held[claim.token] = (claim, b'')\n            if False:\n                if claim.token",
        "An owner settles claims that it does not hold (any more).",
    ),
    Mutant(
        "not fenced",
        _CLAIMS,
        "        if content != self._left_claims:\n",
        "        if content is Ellipsis:\n",
        "An owner whose tasks were taken over while it was silent goes on as if they were its own.",
    ),
    Mutant(
        "outcome recorded only by the farmer",
        "farm/worker.py",
        "        self._write_record(slotfile.end_line(attempt))\n",
        "",
        "What a worker has finished is lost when its farmer is dead.",
    ),
    Mutant(
        "presence held by the farmer alone",
        "farm/worker.py",
        '        self._presence = Presence(os.path.join(folder, "alive"))\n',
        '        for fd in os.listdir("/proc/self/fd"):\n'
        '            if os.path.exists(f"/proc/self/fd/{fd}"):\n'
        '                if os.readlink(f"/proc/self/fd/{fd}") == os.path.join(folder, "alive"):\n'
        "                    os.close(int(fd))  # inherited from the farmer, and its lock with it\n",
        "A dead farmer's tasks are taken from workers that are still running them.",
    ),
]

#: Each call that syncs a file or a folder, left out.
LEFT_OUT = [
    Mutant(
        "fsync left out: the record",
        _JOURNAL,
        "            files.write_all(self._fd, record, 0)\n            os.fsync(self._fd)\n",
        "            files.write_all(self._fd, record, 0)\n",
        "Operations reach the disk, and the record that says what the rest of them is does not.",
    ),
    Mutant(
        "fsync left out: the names of the journal and of what is to be swapped in",
        _JOURNAL,
        "            os.fsync(self._folder)\n            files.write_all(self._fd, record, 0)\n",
        "            files.write_all(self._fd, record, 0)\n",
        "Operations reach the disk, and the record is a file without a name; or there is a record, and what it swaps in is not.",
    ),
    Mutant(
        "fsync left out: the journal's removal when an exchange is taken back",
        _JOURNAL,
        "            os.fsync(self._folder)  # or a power cut",
        "            # or a power cut",
        "An exchange that was taken back, after trouble with the disk, is done after a power cut.",
    ),
    Mutant(
        "fsync left out: a file that was cut back",
        _JOURNAL,
        "            os.ftruncate(fd, operation.before)\n            os.fsync(fd)\n        elif operation.kind is Kind.REPLACE",
        "            os.ftruncate(fd, operation.before)\n        elif operation.kind is Kind.REPLACE",
        "Lines of an exchange that was taken back, after trouble with the disk, are there again after a power cut.",
    ),
    Mutant(
        "fsync left out: claims that were put back",
        _JOURNAL,
        "            files.write_all(fd, self._before[operation.name], 0)\n"
        "            os.ftruncate(fd, operation.before)\n            os.fsync(fd)\n",
        "            files.write_all(fd, self._before[operation.name], 0)\n"
        "            os.ftruncate(fd, operation.before)\n",
        "Claims of an exchange that was taken back, after trouble with the disk, are there again after a power cut.",
    ),
    Mutant(
        "fsync left out: names that changed in another folder",
        _JOURNAL,
        "                files.sync_folder(os.path.join(self._workdir, folder))\n",
        "                pass\n",
        "The claims of a dead owner, settled and given back already, are there again after a power cut.",
    ),
    Mutant(
        "fsync left out: names that changed in the workdir",
        _JOURNAL,
        "            else:\n                os.fsync(self._folder)\n",
        "            else:\n                pass\n",
        "A file that was swapped for another is the old one again after a power cut, or both are there.",
    ),
    Mutant(
        "fsync left out: sizes, which other hosts see",
        _JOURNAL,
        "        if mounts.others_may_see(self._workdir):\n            os.fsync(fd)\n",
        "",
        "A farmer that outlives a crash of its server is shown an exchange older than it knows, and stops.",
    ),
    Mutant(
        "fsync left out: a file that grew or shrank",
        _JOURNAL,
        "                os.ftruncate(fd, operation.after)\n        os.fsync(fd)\n",
        "                os.ftruncate(fd, operation.after)\n",
        "The journal is gone, and what it said is not on the disk.",
    ),
    Mutant(
        "fsync left out: what was written aside",
        _SECTION,
        "            os.fsync(out.fileno())\n",
        "",
        "A large change swaps in a file whose content is not on the disk.",
    ),
    Mutant(
        "fsync left out: farm.json.new",
        _SECTION,
        "                files.write_all(fd, format_farm(farm), 0)\n                os.fsync(fd)\n",
        "                files.write_all(fd, format_farm(farm), 0)\n",
        "farm.json is empty after a power cut: the farm is new again.",
    ),
    Mutant(
        "fsync left out: later, turned round",
        _WAITING,
        "            os.fsync(target)\n",
        "",
        "The list, turned round, is swapped in and its content is not on the disk.",
    ),
    Mutant(
        "fsync left out: an owner's files",
        _OWNERS,
        "        files.sync_folder(folder)\n        files.sync_folder(os.path.dirname(folder))\n",
        "        files.sync_folder(os.path.dirname(folder))\n",
        "What an owner has claimed stands in a file without a name.",
    ),
    Mutant(
        "fsync left out: an owner's folder",
        _OWNERS,
        "        files.sync_folder(os.path.dirname(folder))\n",
        "",
        "What an owner has claimed stands in a folder without a name.",
    ),
    Mutant(
        "fsync left out: the name of the workdir",
        "stores/lists.py",
        "        files.sync_folder(os.path.dirname(os.path.abspath(section.workdir.path)))\n",
        "        pass\n",
        "The whole farm is gone after a power cut.",
    ),
    Mutant(
        "fsync left out: folders",
        "system/files.py",
        "        os.fsync(fd)\n",
        "        pass\n",
        "No name but those in the workdir itself is on the disk.",
    ),
    Mutant(
        "fsync left out: the outcome of a long attempt",
        "farm/worker.py",
        "                os.fdatasync(self._record_fd)\n",
        "                pass\n",
        "An attempt of a second or more is run again after a power cut.",
    ),
    Mutant(
        "fsync left out: a sign of life",
        "system/presence.py",
        "        os.fdatasync(self._fd)  # else",
        "        # else",
        "On NFS nobody sees it in time, and one who is cut off does not notice.",
    ),
]

MUTANTS = {mutant.name: mutant for mutant in PROTOCOL + LEFT_OUT}
