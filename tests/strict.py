"""pytest, strictly: `python tests/strict.py PYTEST-ARGUMENTS`. What `.ci/run` calls.

A test without one of the markers fails the run, because no selection by marker would run it. So does a test that is skipped
(or expected to fail) for a reason that does not stand in `expected_skips.txt`: what is not tested is said out loud.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

MARKERS = ("quick", "components", "campaign")
LIST = Path(__file__).with_name("expected_skips.txt")


class Strict:
    """A pytest plugin."""

    def __init__(self, expected: list[str]) -> None:
        self._expected = expected
        self.unmarked: list[str] = []
        self.unexpected: list[str] = []

    @pytest.hookimpl(tryfirst=True)  # before -m sorts tests out
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self.unmarked = [item.nodeid for item in items if not any(map(item.get_closest_marker, MARKERS))]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._look(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._look(report)

    def _look(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped:
            reason = getattr(report, "wasxfail", None) or _reason(report.longrepr)
            if not any(_fits(reason, expected) for expected in self._expected):
                self.unexpected.append(f"{report.nodeid}: {reason}")


def _reason(longrepr: object) -> str:
    text = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    return text.removeprefix("Skipped: ")


def _fits(reason: str, expected: str) -> bool:
    return reason.startswith(expected[:-1]) if expected.endswith("*") else reason == expected


def _complain(what: str, names: list[str]) -> None:
    if names:
        print(f"\n{what}:", *names, sep="\n    ", file=sys.stderr)


def main() -> int:
    lines = LIST.read_text().splitlines()
    strict = Strict([line.strip() for line in lines if line.strip() and line[0] != "#"])
    status = pytest.main(sys.argv[1:], plugins=[strict])
    sys.stdout.flush()
    _complain(f"without any of the markers {', '.join(MARKERS)}", strict.unmarked)
    _complain(f"skipped for a reason that does not stand in {LIST.name}", strict.unexpected)
    return int(status) or (1 if strict.unmarked or strict.unexpected else 0)


if __name__ == "__main__":
    sys.exit(main())
