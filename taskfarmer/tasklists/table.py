"""The tasklist that is a table: each row is put into one command. CSV (RFC 4180) or TSV, with a header.

    energy,seed,out              [simulate]
    10,1,"low, first.root"       TaskList = taskfarmer.tasklists.TableTaskList
    20,2,high.root               command  = simulate -e {energy} -s {seed} -o {out}

A quoted value may hold the delimiter, newlines and, doubled, quotes. Blank lines are skipped.
"""

from __future__ import annotations

import os
from typing import Iterator, Sequence

from taskfarmer.errors import UsageError
from taskfarmer.tasklists.fields import Template

_WORDS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}


class TableTaskList:
    """Each row of a table with a header, CSV or TSV, is put into one command.

    Options:
        `command`: the command, with fields: {COLUMN} for each column, {id}, {workdir}
        `delimiter`: what parts the columns, one character or `tab` (default: tab for .tsv and .tab, else a comma)
        `quote`: `no` puts values in as they are, not quoted for the shell
    """

    appended_lines_are_new = True

    def __init__(self, path: str, workdir: str, command: str, delimiter: str | None = None, quote: bool = True) -> None:
        self.path = path
        self.workdir = workdir
        self._command = command
        self._template = Template(command, quote)
        self._delimiter = _WORDS.get(delimiter or "", delimiter) or _delimiter_of(path)
        if len(self._delimiter) != 1 or self._delimiter in '"\r\n ' or ord(self._delimiter) > 127:
            raise UsageError(f"delimiter: one character, or tab, is wanted, found {delimiter!r}")

    def __iter__(self) -> Iterator[str]:
        rows = self._rows()
        line, columns = next(rows, (1, []))
        columns = self._check_header(line, columns)
        values = {"workdir": os.path.abspath(self.workdir)}
        for id, (line, row) in enumerate(rows):
            if len(row) != len(columns):
                raise UsageError(
                    f"{self.path}, line {line}: {len(columns)} values are wanted ({', '.join(columns)}), "
                    f"found {len(row)}: {self._delimiter.join(row)!r:.80}"
                )
            values["id"] = str(id)
            values.update(zip(columns, row))
            try:
                yield self._template.fill(values)
            except UsageError as error:
                raise UsageError(f"{self.path}, line {line}: {error}") from error

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """Each row that is not blank, with the number of its first line."""
        import csv

        with open(self.path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            rows = csv.reader(file, delimiter=self._delimiter, strict=True)
            line = 1
            try:
                for row in rows:
                    if row:
                        yield line, row
                    line = rows.line_num + 1
            except csv.Error as error:
                raise UsageError(f"{self.path}, line {line}: this row cannot be read: {error}") from error

    def _check_header(self, line: int, header: Sequence[str]) -> list[str]:
        columns = [column.strip() for column in header]
        if not any(columns):
            raise UsageError(f"{self.path}, line {line}: the names of the columns are wanted, found nothing")
        twice = [column for column in columns if columns.count(column) > 1]
        if twice:
            raise UsageError(f"{self.path}, line {line}: each column wants a name of its own, found {twice[0]!r} twice")
        no_fields = [column for column in columns if column and not column.isidentifier()]
        for column in no_fields:
            if f"{{{column}}}" in self._command:
                raise UsageError(
                    f"{self.path}, line {line}: column {column!r} can be no field: "
                    "a name of letters, digits and _ is wanted in the header"
                )
        try:
            self._template.check(dict.fromkeys((*columns, "id", "workdir")))
        except UsageError as error:
            hint = f". The only column is {columns[0]!r}: is `delimiter` right?" if columns == no_fields[:1] else ""
            raise UsageError(f"{self.path}, line {line}: {error}{hint}") from error
        return columns


def _delimiter_of(path: str) -> str:
    return "\t" if path.lower().endswith((".tsv", ".tab")) else ","
