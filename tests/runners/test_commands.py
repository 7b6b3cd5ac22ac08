"""A command means what it means in bash, however it is started.

Acceptable is, for a line that goes to sh, that the shell itself complains in its own words (`sh: 1: cannot open x: No such
file` where bash would say `bash: line 1: x: No such file or directory`). Everything else must be the same: whether it
complains, what the programs say, the exit status, and the files that are left. That a program was killed is told by the
exit status; the word `Killed` beside it is a shell's own, too.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from taskfarmer.model import Slot, Task
from taskfarmer.runners import BasicRunner
from taskfarmer.system import launching

pytestmark = pytest.mark.quick

FILES = {
    "script.sh": ('#!/bin/sh\necho script $# "$@"\nexit 3\n', 0o755),
    "bare": ("echo bare ${BASH_VERSION:+of bash} $# $0\n", 0o755),
    "empty": ("", 0o755),
    "badhead": ("#!/no/such/interpreter\n", 0o755),
    "killed": ("#!/bin/sh\nkill -9 $$\n", 0o755),
    "data.txt": ("one\ntwo\n", 0o644),
    "a b": ("#!/bin/sh\necho blank\n", 0o755),
    "bin/prog": ("#!/bin/sh\necho prog\n", 0o755),
    "bin/bareprog": ("echo bareprog ${BASH_VERSION:+of bash}\n", 0o755),
    "bin/noexec": ("#!/bin/sh\necho never\n", 0o644),
    "bin/if": ("#!/bin/sh\necho never\n", 0o755),
    "bin/echo": ("#!/bin/sh\necho never\n", 0o755),
    "bin/A=1": ("#!/bin/sh\necho never\n", 0o755),
    "bin/%1": ("#!/bin/sh\necho never\n", 0o755),
}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder the commands run in: programs and files of every kind, and a PATH that begins with `bin`."""
    for name in ("BASH_ENV", "ENV", "SHELLOPTS", "BASHOPTS", "POSIXLY_CORRECT"):
        monkeypatch.delenv(name, raising=False)
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("PWD", str(place))
    monkeypatch.setenv("PATH", f"{place}/bin:{os.environ['PATH']}")
    fill(place)
    return place


def fill(place: Path) -> None:
    (place / "sub").mkdir(exist_ok=True)
    (place / "bin").mkdir(exist_ok=True)
    for name, (content, mode) in FILES.items():
        (place / name).write_text(content)
        (place / name).chmod(mode)


def as_the_farm_does(line: str, log: int, null: int) -> int:
    """Start a command as a worker does; return its raw status."""
    env = dict(os.environb)
    launch = BasicRunner().launch(Task(0, line), Slot(0))
    return os.waitpid(launching.start(launch, env, null, log), 0)[1]


def as_bash_does(line: str, log: int, null: int) -> int:
    """Start a command with `bash -c`; return its raw status."""
    started = subprocess.Popen(
        ["bash", "-c", "--", line], executable="/bin/bash", env=dict(os.environ),
        stdin=null, stdout=log, stderr=log, start_new_session=True,
    )  # fmt: skip
    pid, raw = os.waitpid(started.pid, 0)
    started.returncode = raw
    return raw


def result(way, line: str, place: Path) -> tuple[int, list[str], dict[str, str]]:
    """Exit status as a shell tells it, output, and the files a command leaves."""
    output = place.parent / "output"
    log = os.open(output, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    try:
        raw = way(line, log, null)
    finally:
        os.close(log)
        os.close(null)
    status = 128 + os.WTERMSIG(raw) if os.WIFSIGNALED(raw) else os.WEXITSTATUS(raw)
    said = [told(text) for text in output.read_text(errors="replace").splitlines() if not KILLED.fullmatch(text)]
    if "env" in line:
        # Each shell writes these anew, and gives the others an order of its own.
        said = [text for text in said if not text.startswith(("_=", "SHLVL=", "OLDPWD="))]
    if "|" in line or "env" in line:
        said.sort()  # the two ends of a pipe speak when they like
    left = {}
    for path in place.rglob("*"):
        name = str(path.relative_to(place))
        if path.is_file() and name not in FILES:
            left[name] = "\n".join(told(text) for text in path.read_text(errors="replace").splitlines())
            path.unlink()
    return status, said, left


#: A shell that has become its last command cannot say this, and which shells do so differs.
KILLED = re.compile(r"Killed|bash: line \d+: +\d+ Killed.*")


def told(text: str) -> str:
    """A line of output without what may differ: words of the shell itself, pids, and times taken."""
    if re.match(r"(/bin/)?(ba)?sh: ((line )?\d+: )?", text):
        return "(the shell complains)"
    return re.sub(r"\d+m\d+\.\d+s", "TIME", text)


def assert_means_the_same(line: str, place: Path) -> None:
    # The stages of a pipeline may talk into each other's lines: a real difference is there each time.
    for _ in range(3):
        farm = result(as_the_farm_does, line, place)
        fill(place)
        bash = result(as_bash_does, line, place)
        fill(place)
        if farm == bash:
            return
    assert farm == bash, f"{spelling(line)}: {line}"


def spelling(line: str) -> str:
    """How a line is started: direct, sh or bash."""
    launch = BasicRunner().launch(Task(0, line), Slot(0))
    return "direct" if launch.fallback is not None else launch.argv[0]


# Both ways

PROGRAMS = [
    "true", "false", "cat", "wc", "seq", "expr", "basename", "prog", "bareprog", "noexec", "nosuch", "./script.sh",
    "./bare", "./empty", "./badhead", "./data.txt", "./nosuch", "sub", "./sub", "./sub/", "data.txt/x", "sh", "env",
    "./killed", "script.sh", "/bin/true", "./a\\ b", "sub/../script.sh", "bin/prog", ".//script.sh", "tr", "nice", "-n", "@", "3", ",",
]  # fmt: skip
SPECIAL = [
    "echo", "printf", "test", "[", "cd", "pwd", "exit", "if", "then", "fi", "time", "for", "in", "do", "done", "A=1", "x=y",
    "%1", ".", ":", "!", "{", "}", "export", "eval", "exec", "command", "type", "umask", "local", "return", "break",
    "function", "select", "case", "esac", "while", "'true'", '"prog"', "\\true", "$X", "~", "#", "(", ")", "((1))",
]  # fmt: skip
WORDS = [
    "3", "1", "-n", "-c", "-x", "--", "--a=b", "A=1", "%1", "sub", "data.txt", "nosuch", "a,b", "x:y", "+", "@", "=", "%",
    "'a b'", '"c d"', "a\\ b", "$HOME", "$(prog)", "`prog`", "${X:-y}", "*.sh", "su*", "~", "{a,b}", "#", "\u00fc", "''", "in", "]",
    "-1", "^", "!", "?ub", "[s]ub", "$?", "a=~", "true", "prog", "env", "sh", "a", "b",
]  # fmt: skip
REDIRECTIONS = [
    "> out{}", ">out{}", "1> out{}", ">> out{}", "2> err{}", "2>>err{}", "2>&1", "< data.txt", "<data.txt", "< nofile",
    "> /no/dir/x", "> sub", "&> out{}", "<<< here", "1>&2", "3> out{}", "> out{} 2>&1", "2>&1 > out{}", "2> /dev/null",
]  # fmt: skip


@st.composite
def lines(draw: st.DrawFn) -> str:
    text = ""
    for number in range(draw(st.integers(1, 4))):
        if number:
            text += draw(st.sampled_from([" ; ", ";", " && ", "&&", " || ", " | ", "|"]))
        first = draw(st.sampled_from(PROGRAMS + PROGRAMS + SPECIAL))
        rest = draw(st.lists(st.sampled_from(WORDS), max_size=3))
        redirections = draw(st.lists(st.sampled_from(REDIRECTIONS), max_size=1 if draw(st.booleans()) else 2))
        text += " ".join([first, *rest, *(r.format(f"{number}{i}") for i, r in enumerate(redirections))])
    return text + draw(st.sampled_from(["", "", "", " ", ";", " ;"]))


@seed(2)
@settings(
    max_examples=300,
    deadline=None,
    derandomize=False,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much],
    database=None,
)
@given(line=lines())
def test_a_generated_line_means_the_same_both_ways(place: Path, line: str) -> None:
    assert_means_the_same(line, place)


MEANINGS = [
    "", "true", "false", "exit 5", "prog", "nosuch", "./nosuch", "./data.txt", "noexec", "sub", "./sub", "/", ".", "./badhead",
    "./empty", "./bare a b", "bareprog", "bareprog; true", "true; bareprog", "./killed", "true; ./killed", "./killed; true",
    "cat nofile", "cat < nofile", "cat < nofile || prog", "true; cat < nofile", "cat < nofile; cat data.txt",
    "true > /no/dir/x", "true > sub && prog", "prog > out; cat out", "prog | wc -l", "seq 3 | nosuch", "nosuch | wc -l",
    "false | true", "true | false", "true;", "true ; ", "true;;", "true &&", "| true", "&& true", "if", "if true; then prog; fi",
    "for i in a b; do prog $i; done", "A=1", "A=1 env true", "x=y true", "%1", "time prog", "! true", "{ prog; }", "(prog)",
    "((1))", "((0))", "[ -e sub ]", "[[ -e sub ]]", "test -e nofile", "echo *", "prog *.sh", "echo ~", "echo {a,b}", "echo $((1+2))",
    "echo 'a", "echo \"a", "echo $'a\\tb'", "cat <<< x", "prog &> out", "prog & wait", "prog |& wc -l", "cat <(prog)",
    "a\tb", "prog\ta", "  prog", "prog  ", "prog # comment", "#prog", "prog#x", "kill -9 $$", "ulimit -n", "cd sub && pwd",
    "cd sub; /bin/pwd", "pwd", "set -e; false; prog", "false && true; prog", "true || false && prog", "export A=2; env true",
    "exec prog", "exec nosuch", "eval prog", "command prog", "source bare", ". ./bare", "type if", "printf %s\\\\n a b", "read x",
    "trap 'echo bye' EXIT", "f() { echo f; }; f", "echo $0", "echo $#", "echo $BASH_VERSION | wc -l", "let x=1", "declare -i x=1",
    "sh -c 'exit 4'", "sh -c true; false", "env -i prog", "env nosuch", "nice prog", "./a\\ b", "'./a b'", "./a b", "echo \u00fc\u20ac",
    "seq 100000 | head -n 1", "prog 2>&1 | cat", "nosuch 2> /dev/null", "./nosuch 2> err", "seq 3 > out 2> err", "cat data.txt data.txt",
    "sub/../bin/prog", "bin//prog", "data.txt/x", "prog/", "./script.sh -n --x=1 a,b c@d e%f +g", "true > out > out2",
    "in", "prog in", "script.sh", "bare", "data.txt", "script.sh; true", "select", "function", "time", "then", "esac", "echo a=b", "prog a=b", "prog %1", "prog = @",
]  # fmt: skip


@pytest.mark.parametrize("line", MEANINGS)
def test_a_line_means_the_same_both_ways(place: Path, line: str) -> None:
    assert_means_the_same(line, place)


# Which spelling

SPELLINGS = {
    "direct": [
        "true", "prog", "prog a=b", "./script.sh -n --x=1 a,b c@d e%f +g", "/bin/true", "prog\ta", "./bare",
        "bin/prog in if", "env A=1 prog", "cat data.txt",
    ],
    "sh": [
        "true; false", "prog; prog", "cat data.txt | wc -l", "prog && prog || prog", "prog 2>&1 | cat", "prog ;",
        "./script.sh; prog",
    ],
    "bash": [
        "echo a", "printf a", "[ -e x ]", "A=1 prog", "prog &", "cd sub", "time prog", "if true; then prog; fi", "prog; echo $X",
        "./bare; true", "bareprog; true", "nosuch; true", "a=b", "%1", "cat <<< x", "prog &> out", "prog *", "prog ~", "'prog'",
        "\\prog", "prog # x", "(prog)", "{ prog; }", "! prog", "prog $X", "prog; cd sub", "prog; A=1 prog", "prog | read x",
        "prog '' ", "prog ?", "prog [a]", "prog {a,b}", "prog ^", "prog \u00fc", "in", "then prog", "test 1", "kill 1", "noexec; true",
        "prog; if", "prog;; prog", "prog |& prog", "prog 3> out", "prog >| out", "prog <> out", "prog >& out", "prog \"a b\"",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("wanted", "line"), [(wanted, line) for wanted in SPELLINGS for line in SPELLINGS[wanted]])
def test_the_spelling_of_a_line(wanted: str, line: str) -> None:
    assert spelling(line) == wanted


def test_an_exported_function_is_run_and_not_the_program_of_its_name(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BASH_FUNC_prog%%", "() { echo function; }")
    assert (spelling("prog"), spelling("true; prog")) == ("bash", "bash")
    for line in ("prog", "true; prog", "cat data.txt; true", "bin/prog"):
        assert_means_the_same(line, place)


@pytest.mark.parametrize("name", ["BASH_ENV", "ENV", "SHELLOPTS", "POSIXLY_CORRECT"])
def test_what_changes_bash_is_heeded(place: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """BASH_ENV may define `prog` anew."""
    (place.parent / "rc").write_text("prog() { echo from rc; }\n")
    monkeypatch.setenv(name, {"SHELLOPTS": "errexit", "POSIXLY_CORRECT": "1"}.get(name, str(place.parent / "rc")))
    for line in ("prog", "false; prog", "cat data.txt"):
        assert_means_the_same(line, place)


def test_without_a_path_a_program_is_found_where_bash_finds_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PATH")
    for line in ("true", "ls sub", "nosuch"):
        assert_means_the_same(line, place)


@pytest.mark.parametrize("path", ["", ":", "bin", "sub::bin:/usr/bin:/bin", "/nosuch:{}/bin:/bin", "~/bin:/bin"])
def test_a_program_is_found_in_an_odd_path_as_bash_finds_it(
    place: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("PATH", path.format(place))
    for line in ("prog", "script.sh", "noexec", "sub", "true; prog"):
        assert_means_the_same(line, place)


def test_bytes_that_are_not_text_reach_the_program_unharmed(place: Path) -> None:
    line = b"printf %s '\xff\xfe\xe4'".decode("utf-8", "surrogateescape")
    log = os.open(place.parent / "bytes", os.O_RDWR | os.O_CREAT, 0o644)
    null = os.open(os.devnull, os.O_RDONLY)
    assert as_the_farm_does(line, log, null) == 0
    assert os.pread(log, 100, 0) == b"\xff\xfe\xe4"
    os.close(log)
    os.close(null)


def test_always_uses_bash_and_never_uses_none() -> None:
    always, never = BasicRunner("always"), BasicRunner("never")
    assert always.launch(Task(0, "true"), Slot(0)).argv == ("bash", "-c", "true")
    assert never.launch(Task(0, "echo 'a b' > x"), Slot(0)).argv == ("echo", "a b", ">", "x")
