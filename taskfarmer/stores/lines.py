"""The workdir of the text store: its names, its lines, and `farm.json`.

toprocess   ID command        a stack: the last line is the next task
later       ID command        a queue in plain order; turned round into toprocess when that is empty
finished    ID command        in the order they were settled
failed      ID command
attempts    ID COUNTED TOTAL  see stores/attempts.py
sizes       NAME BYTES LINES  of those five, after the last exchange; advisory. Then `exchange ROW NUMBER`
farm.json   what the farm is: format, lock, list, next id; always replaced by rename
running/OWNER/claims          TOKEN ID ATTEMPT command, of every claim its farmer holds
running/OWNER/slot_K          see stores/slotfile.py
running/OWNER/alive           see system/presence.py
logs/log_ID                   stdout and stderr of the task's last attempt
timeline.json                 see farm/timeline.py
journal                       see stores/journal.py
lock                          unless it lives elsewhere; holds the farm's nonce
"""

import os
from typing import Any, Iterable, Iterator, Mapping, NamedTuple

from taskfarmer.errors import StateError
from taskfarmer.model import Owner, Task
from taskfarmer.system import files

FORMAT = 1
TASK_FILES = ("toprocess", "later", "finished", "failed")
STATE_FILES = (*TASK_FILES, "attempts")
#: The last line of `sizes`: which row of exchanges (a random number), and the how manieth of it the last one was.
EXCHANGE = "exchange"


class Held(NamedTuple):
    """A line of `claims`, read back."""

    token: int
    id: int
    attempt: int
    command: bytes


def task_line(id: int, command: bytes) -> bytes:
    """`ID command`"""
    return b"%d %s\n" % (id, command)


def parse_task(line: bytes) -> tuple[int, bytes] | None:
    """Id and command of an `ID command` line, None if it is not one."""
    id, blank, command = line.partition(b" ")
    return (int(id), command) if id.isdigit() and blank and command else None


def encode(command: str) -> bytes:
    """A command as the state files hold it: the user's bytes."""
    return command.encode("utf-8", "surrogateescape")


def decode(command: bytes) -> str:
    """A command as the rest of the program knows it."""
    return command.decode("utf-8", "surrogateescape")


def number_lines(commands: Iterable[str], first_id: int) -> Iterator[bytes]:
    """`ID command` lines, with ids from `first_id` on."""
    for id, command in enumerate(commands, first_id):
        if "\n" in command or "\0" in command or not command:
            check_command(id, command)
        try:
            line = f"{id} {command}\n".encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise StateError(
                f"task {id}: text is wanted for a command, found {command[:60]!r}: {error.reason}"
            ) from error
        yield line


def check_command(id: int, command: str) -> None:
    """Raise StateError for a command that would not stand in one line, or could never be started."""
    if "\0" in command:
        raise StateError(
            f"task {id}: text is wanted for a command, found a NUL byte in {command[:60]!r}. "
            "Is the list UTF-16? Then: iconv -f UTF-16 -t UTF-8 LIST > NEW"
        )
    if "\n" in command or not command:
        raise StateError(f"task {id}: one line is wanted for a command, found {command[:60]!r}; join lines with ';'")


def read_tasks(path: str) -> Iterator[Task]:
    """Every task in a state file, in its order; StateError for a line that is none."""
    try:
        file = open(path, "rb", opener=files.fresh)
    except FileNotFoundError:
        return
    with file, files.named(path):
        for number, line in enumerate(file, 1):
            task = parse_task(line.rstrip(b"\n"))
            if task is None:
                raise broken_line(path, number, line)
            yield Task(task[0], decode(task[1]))


def claim_line(token: int, id: int, attempt: int, command: bytes) -> bytes:
    """`TOKEN ID ATTEMPT command`"""
    return b"%d %d %d %s\n" % (token, id, attempt, command)


def parse_claims(content: bytes) -> list[Held]:
    """Every claim of a `claims` file."""
    held = []
    for line in content.split(b"\n"):
        words = line.split(b" ", 3)
        if len(words) == 4:
            held.append(Held(int(words[0]), int(words[1]), int(words[2]), words[3]))
    return held


def broken_line(path: str, number: int, line: bytes) -> StateError:
    """The sentence for a line that is not `ID command`."""
    found = line[:80].decode("utf-8", "backslashreplace")
    return StateError(f"{path}, line {number}: 'ID command' was expected, found {found!r}. Correct or remove that line")


class Size(NamedTuple):
    """How large a state file is."""

    bytes: int
    lines: int


def format_sizes(sizes: dict[str, Size]) -> bytes:
    """The text of `sizes`."""
    return b"".join(b"%s %d %d\n" % (name.encode(), *sizes[name]) for name in (*STATE_FILES, EXCHANGE))


def parse_sizes(content: bytes | None) -> dict[str, Size] | None:
    """What `sizes` says, None if it is missing or torn."""
    sizes = {}
    for line in (content or b"").splitlines():
        words = line.split()
        if len(words) != 3 or not (words[1].isdigit() and words[2].isdigit()):
            return None
        sizes[words[0].decode()] = Size(int(words[1]), int(words[2]))
    return sizes if all(name in sizes for name in STATE_FILES) else None


def tasks_of(farm: Mapping[str, Any]) -> int:
    """How many tasks a farm has: every id that was given, but those of lines that were removed before they ran."""
    count: int = farm["next_id"] - farm.get("dropped", 0)
    return count


def parse_farm(path: str, content: bytes) -> dict[str, Any] | None:
    """What `farm.json` says; None if the farm is new. Raises StateError for what we cannot have written."""
    import json

    if not content.strip():
        return None
    try:
        farm: dict[str, Any] = json.loads(content)
        format = farm["format"]
        if format == FORMAT and not (
            {"lock", "next_id"} <= farm.keys() and {"kind", "path", "nonce"} <= farm["lock"].keys()
        ):
            raise KeyError("lock or next_id")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StateError(f"{path}: this is no farm.json of PyTaskFarmer. Use another --workdir") from error
    if format != FORMAT:
        raise StateError(
            f"{path}: format {format} was written by a newer PyTaskFarmer, this one knows {FORMAT}. "
            "Use that version, or another --workdir"
        )
    return farm


def format_farm(farm: dict[str, Any]) -> bytes:
    """The text of `farm.json`."""
    import json

    return json.dumps(farm, indent=1, sort_keys=True).encode() + b"\n"


def owners_folder(workdir: str) -> str:
    """`running/`"""
    return os.path.join(workdir, "running")


def owner_file(owner: Owner, name: str) -> str:
    """The path of one of an owner's files, seen from the workdir."""
    return f"running/{owner}/{name}"


def owner_folder(workdir: str, owner: Owner) -> str:
    """`running/OWNER/`"""
    return os.path.join(workdir, "running", str(owner))
