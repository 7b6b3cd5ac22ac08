"""What a power cut may leave: of a record of changes (tests/components/recordfs.py), those that were synced and some others.

A file's content is safe once the file was synced after the change, a name once its folder was. Nothing else is promised
(POSIX says no more): what was not synced may have reached the disk or not, each file and each name for itself, and of the
changes to one file the first few. So from each moment there are many disks to wake up with.
"""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Callable, Iterator, NamedTuple, Union

Item = tuple[object, ...]  # ("content", FILE), or ("name", FOLDER, NAME)
Tree = dict[str, Union["Tree", bytes]]
_NAMES = frozenset(("create", "mkdir", "unlink", "rmdir", "rename"))


class Change(NamedTuple):
    """One entry of the record: what was done, what it concerns, and whether it survives whatever happens."""

    words: tuple[object, ...]
    item: Item | None
    safe_by_itself: bool


class Disk:
    """A record of changes to a disk. `is_safe` says of a path whether the tests want it to survive in any case."""

    def __init__(self, record: Path, is_safe: Callable[[str], bool]) -> None:
        self.changes: list[Change] = []
        self._paths = {0: ""}
        self._folders: dict[tuple[object, object], object] = {}
        with open(record, "rb") as file:
            while words := _next(file):
                self._note(words, is_safe)

    def _note(self, words: tuple, is_safe: Callable[[str], bool]) -> None:
        kind = words[0]
        if kind in ("create", "mkdir"):
            self._paths[words[3]] = f"{self._paths[words[1]]}/{words[2]}"
        if kind == "mkdir":
            self._folders[words[1], words[2]] = words[3]
        elif kind == "rename" and (folder := self._folders.pop((words[1], words[2]), None)) is not None:
            self._folders[words[3], words[4]] = folder
            self._move(self._paths[folder], f"{self._paths[words[3]]}/{words[4]}")  # type: ignore[index]
        item: Item | None = None
        safe = False
        if kind in _NAMES:
            item = ("name", *words[-2:]) if kind == "rename" else ("name", *words[1:3])
            safe = is_safe(f"{self._paths[item[1]]}/{item[2]}")  # type: ignore[index]
        elif kind != "sync":
            item = ("content", words[1])
            safe = is_safe(self._paths[words[1]])
        self.changes.append(Change(words, item, safe))

    def _move(self, old: str, new: str) -> None:
        """A folder has another name, and so has all in it."""
        for number, path in self._paths.items():
            if path == old or path.startswith(f"{old}/"):
                self._paths[number] = new + path[len(old) :]

    def path_of(self, item: Item) -> str:
        """The path of a file, or of a name in its folder, as it was when it was made."""
        return self._paths[item[1]] + (f"/{item[2]}" if item[0] == "name" else "")  # type: ignore[index]

    def name_of(self, index: int) -> str:
        """A change in words."""
        words, item, _ = self.changes[index]
        path = self.path_of(item) if item else self._paths[words[1]]  # type: ignore[index]
        return f"{words[0]} {path}"

    def whole(self, end: int) -> Tree:
        """Everything, as the programs saw it after so many changes."""
        return self._tree(end, frozenset())

    def left_by_a_cut(self, begin: int, end: int, every: bool = True) -> Iterator[tuple[str, Tree]]:
        """Disks that a power cut after `end` changes may leave, and what was lost; all before `begin` is long safe.

        Lost is all that was not synced; or one thing, or what was done last to one thing; if `every`, all but that.
        """
        pending: dict[Item, list[int]] = {}
        for index in self._unsynced(begin, end):
            item = self.changes[index].item
            assert item is not None
            pending.setdefault(item, []).append(index)
        everything = frozenset(index for indices in pending.values() for index in indices)
        yield "all that was not synced", self._tree(end, everything)
        for item, indices in pending.items():
            what = f"{item[0]} {self.path_of(item)}"
            for kept in range(len(indices)):
                lost = frozenset(indices[kept:])
                yield what + (f" from its change {kept + 1} on" if kept else ""), self._tree(end, lost)
            for kept in range(1, len(indices) + 1) if every and len(pending) > 1 else ():
                yield f"all but the first {kept} of {what}", self._tree(end, everything - frozenset(indices[:kept]))

    def _unsynced(self, begin: int, end: int) -> list[int]:
        unsynced: dict[int, list[int]] = {}
        for index in range(begin, end):
            words, item, safe = self.changes[index]
            if words[0] == "sync":
                unsynced.pop(words[1], None)  # type: ignore[call-overload]
            elif not safe:
                unsynced.setdefault(item[1], []).append(index)  # type: ignore[index, arg-type]
        return sorted(index for indices in unsynced.values() for index in indices)

    def _tree(self, end: int, lost: frozenset[int]) -> Tree:
        folders: dict[object, dict[object, object]] = {0: {}}
        contents: dict[object, bytearray] = {}
        for index in range(end):
            words = self.changes[index].words
            kind = words[0]
            if kind == "mkdir":
                folders[words[3]] = {}
            elif kind == "create":
                contents[words[3]] = bytearray()
            if index in lost:
                continue
            if kind in ("create", "mkdir"):
                folders[words[1]][words[2]] = words[3]
            elif kind in ("unlink", "rmdir"):
                folders[words[1]].pop(words[2], None)
            elif kind == "rename":
                moved = folders[words[1]].pop(words[2], None)
                if moved is not None:
                    folders[words[3]][words[4]] = moved
            elif kind == "write":
                content, offset, data = contents[words[1]], words[2], words[3]
                content.extend(bytes(max(0, offset - len(content))))  # type: ignore[operator]
                content[offset : offset + len(data)] = data  # type: ignore[operator, arg-type, misc]
            elif kind == "truncate":
                content = contents[words[1]]
                del content[words[2] :]  # type: ignore[misc]
                content.extend(bytes(words[2] - len(content)))  # type: ignore[operator]

        def grown(number: object) -> Tree:
            return {
                str(name): grown(child) if child in folders else bytes(contents[child])
                for name, child in sorted(folders[number].items())  # type: ignore[type-var]
            }

        return grown(0)


def _next(file) -> tuple | None:
    try:
        return pickle.load(file)
    except EOFError:
        return None


def put(tree: Tree, folder: Path) -> None:
    """Make a folder hold this and nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(exist_ok=True)
    for name, content in tree.items():
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            put(content, folder / name)


def flat(tree: Tree, prefix: str = "") -> dict[str, bytes]:
    """Path and content of each file; a folder ends with a slash."""
    found: dict[str, bytes] = {}
    for name, content in tree.items():
        if isinstance(content, bytes):
            found[prefix + name] = content
        else:
            found[f"{prefix}{name}/"] = b""
            found |= flat(content, f"{prefix}{name}/")
    return found
