"""The tasklist of files or words: each line is put into one command.

    [convert]
    TaskList = taskfarmer.tasklists.TemplateTaskList
    command  = convert {line} {stem}.png

Comments and blank lines are skipped as in a list of commands.
"""

from __future__ import annotations

import os
from typing import Iterator

from taskfarmer.tasklists.fields import Template
from taskfarmer.tasklists.lines import read_lines

_PATH_FIELDS = ("name", "stem", "suffix", "parent")


class TemplateTaskList:
    """Each line of the list, the name of a file or any other text, is put into one command.

    Options:
        `command`: the command, with fields: {line} {id} {name} {stem} {suffix} {parent} {workdir}
        `quote`: `no` puts values in as they are, not quoted for the shell
    """

    appended_lines_are_new = True

    def __init__(self, path: str, workdir: str, command: str, quote: bool = True) -> None:
        self.path = path
        self.workdir = workdir
        self._template = Template(command, quote)
        self._template.check(("line", "id", *_PATH_FIELDS, "workdir"))

    def __iter__(self) -> Iterator[str]:
        fill = self._template.fill
        wants_path = self._template.fields.intersection(_PATH_FIELDS)
        values = {"workdir": os.path.abspath(self.workdir)}
        for id, line in enumerate(read_lines(self.path)):
            values["line"] = line
            values["id"] = str(id)
            if wants_path:
                values.update(zip(_PATH_FIELDS, _parts(line)))
            yield fill(values)


def _parts(line: str) -> tuple[str, str, str, str]:
    """What pathlib calls a path's name, stem, suffix and parent; it would keep each name it has seen (sys.intern)."""
    parts = [part for part in line.split("/") if part not in ("", ".")]
    root = "" if line[:1] != "/" else "//" if line[1:2] == "/" and line[2:3] != "/" else "/"
    name = parts.pop() if parts else ""
    dot = name.rfind(".")
    stem, suffix = (name[:dot], name[dot:]) if 0 < dot < len(name) - 1 else (name, "")
    return name, stem, suffix, root + "/".join(parts) or "."
