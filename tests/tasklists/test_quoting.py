"""A value that is put into a command arrives at the program as it is, whatever it holds and whichever quotes it is in.

Judged by a real bash.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from taskfarmer.errors import UsageError
from taskfarmer.tasklists.fields import Template

pytestmark = pytest.mark.quick

NASTY = [
    "",
    " ",
    "a b",
    "it's",
    'say "hi"',
    "$(>pwned)",
    "`>pwned`",
    "$HOME ${HOME}",
    "100%",
    "%s%n",
    "-rf",
    "--",
    "~",
    "~root",
    "*",
    "[a-z]",
    "{a,b}",
    "{line}",
    "a\nb",
    "\n",
    "a\n\n",
    "\\",
    "a\\",
    "\\n",
    "!!",
    "#",
    "a;>pwned",
    "a&&>pwned",
    "a|b",
    ">pwned",
    "a\tb",
    "a\rb",
    "größe 日本",
    "\udcff\udcfe",
    "if",
    "time",
    "A=1",
    "1",
    "a'b\"c$d`e\\f\ng",
    "'",
    "'''",
    '"',
    "$",
    "'$(>pwned)'",
    '"$(>pwned)"',
    "'\n>pwned\n'",
    "a[$(>pwned)]",
    "=b",
    "=~",
    ":~root",
]
VALUES = st.one_of(
    st.sampled_from(NASTY),
    st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=12),
    st.lists(st.sampled_from(list("'\"$`\\\n ()!#ab{};&|<>~=*")), max_size=12).map("".join),
)
#: Templates whose program prints what it received, and what that is for the values x and y.
PLACES = {
    "{x}": "{x}",
    "{x} {y}": "{x}\0{y}",
    "{x}{y}": "{x}{y}",
    "out_{x}.root": "out_{x}.root",
    "--out={x} -v": "--out={x}\0-v",
    "/data/{x}/{y}": "/data/{x}/{y}",
    "'{x}'": "{x}",
    "'a {x} b'": "a {x} b",
    '"{x}"': "{x}",
    '"a {x} b"': "a {x} b",
    '"{x}{y}"': "{x}{y}",
    '"\'{x}\'"': "'{x}'",
    "'\"{x}\"'": '"{x}"',
    "$'{x}'": "{x}",
    "$'\\t{x}\\x41'": "\t{x}A",
    '$V{x} "$V{x}" "${V}{x}"': "v{x}\0v{x}\0v{x}",
    "$V{x}{y}": "v{x}{y}",
    "$1{x}": "{x}",
    "'$V'{x}": "$V{x}",
    "~{x}": "~{x}",
    "a\\ b{x}": "a b{x}",
    '"a\\"{x}"': 'a"{x}',
    '"\\$V{x}"': "$V{x}",
    "\\'{x}": "'{x}",
    "'a\\'{x}": "a\\{x}",
    '{x} "$(true)" {y}': "{x}\0\0{y}",
    '"$(printf %s_ {x})"': "{x}_",
    '"$(printf %s_ "{x}")"': "{x}_",
    "\"$(printf %s_ '{x}')\"": "{x}_",
    '"$(printf %s_ "$(printf %s_ "{x}")")" {y}': "{x}__\0{y}",
    "$(true) {x}": "{x}",
    "`true` {x}": "{x}",
    '"${V}" {x} "${V:-b}" {y}': "v\0{x}\0v\0{y}",
    "${V} ${#V} {x}": "v\x001\0{x}",
    '"$((1 + (2)))" {x}': "3\0{x}",
    "$(( (1) )){x}": "1{x}",
    "{x} # it's a comment {y}": "{x}",
    "{x}#{y}": "{x}#{y}",
    "a \\\n {x}": "a\0{x}",
    '"a\\\n{x}"': "a{x}",
    "$V\\\n{x}": "v{x}",
    "{x}\\\n2>&1": "{x}2",
    "{{x}}{x}": "{{x}}{x}",
    "{} {a,b} {1..3} ${V} {x}": "{{}}\0a\0b\x001\x002\x003\0v\0{x}",
    "'{print $1}' {x}": "{{print $1}}\0{x}",
    "$'it\\'s' {x}": "it's\0{x}",
    "a 2>&1 {x}": "a\0{x}",
    "{x}</dev/null": "{x}",
    "{x}2>&1": "{x}2",
}  # fmt: skip


def received(commands: list[str], folder: Path) -> list[list[bytes]]:
    """The arguments that the program of each command gets, started by bash as the farm does."""
    program = "args() { printf '%s\\0' $# \"$@\"; }"
    done = subprocess.run(
        ["/bin/bash", "-c", "\n".join([program, *commands])],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "LC_ALL": "C.UTF-8", "V": "v"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    assert done.stderr == b"", (commands, done.stderr)
    printed = iter(done.stdout.split(b"\0"))
    return [[next(printed) for _ in range(int(count))] for count in printed if count]


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("value", NASTY, ids=ascii)
def test_a_nasty_value_arrives_as_it_is(value: str, tmp_path: Path) -> None:
    arrives(list(PLACES), value, value, tmp_path)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(place=st.sampled_from(sorted(PLACES)), x=VALUES, y=VALUES)
def test_any_value_arrives_as_it_is(place: str, x: str, y: str, tmp_path: Path) -> None:
    arrives([place], x, y, tmp_path)


def arrives(places: list[str], x: str, y: str, folder: Path) -> None:
    commands = [Template(f"args {place}").fill({"x": x, "y": y}) for place in places]
    assert not [command for command in commands if "\n" in command]
    for command, place, arguments in zip(commands, places, received(commands, folder)):
        expected = [encoded(part.format(x=x, y=y)) for part in PLACES[place].split("\0")]
        assert arguments == expected, command
    assert os.listdir(folder) == []


#: What could make a value that is put in the wrong quotes run as a command.
BREAKERS = ["$(>pwned)", "`>pwned`", "'", '"', "\n>pwned\n", ";>pwned;", ")", "}", "\\", " ", "))", "a"]
PIECES = ["{x}", "{x}", "'", '"', "$'", "`", "$(", "${V", "${V:-", "}", "$((", "((", "(", ")", "))", "\\", " ", "a",
          "case a in a)", ";; esac", ";", "$", "#", " # ", "[[ a", " ]]", "$[", "]", "<(", "1", "!", "$$", "$#", "&&",
          "$\"", "<<<", "{", ":", "=", "\\\n"]  # fmt: skip


@settings(max_examples=100, suppress_health_check=list(HealthCheck), deadline=None)
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=12), breakers=st.lists(st.sampled_from(BREAKERS), max_size=8))
@example(pieces=['"', "$(", "case a in a)", " ", "{x}", ";; esac", ")", '"'], breakers=["$(>pwned)"])
@example(pieces=['"', "${V:-", "'", "}", "'", "}", '"', "{x}"], breakers=["$(>pwned)"])
@example(pieces=["$[", "a", "[", "1", "]", "{x}", "]"], breakers=["$(>pwned)"])
def test_no_value_is_ever_run_wherever_a_template_puts_it(
    pieces: list[str], breakers: list[str], tmp_path: Path
) -> None:
    """A template may be nonsense: then it is refused, or bash complains; what is in the value is not looked at."""
    try:
        template = Template("".join(pieces))
        template.check(["x"])
    except UsageError:
        return
    command = template.fill({"x": "".join(breakers)})
    subprocess.run(
        ["/bin/bash", "-c", command],
        cwd=tmp_path,
        env={"PATH": "/nonexistent", "V": "v", "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=20,
    )
    assert not (tmp_path / "pwned").exists(), command


def test_fields_are_refused_where_no_quoting_is_known() -> None:
    for place, reason in {
        "`echo {x}`": "in backticks",
        "${V:-{x}}": "in ${ }",
        '"${V:-{x}}"': "in ${ }",
        "$((1 + {x}))": "in arithmetic",
        "((A = {x}))": "in arithmetic",
        "$[1 + {x}]": "behind $[ ]",
        "\\{x}": "behind a backslash",
        '"\\{x}"': "behind a backslash",
        '"${V:-"a"}" {x}': "behind quotes in ${ }",
        '"$(case a in a) echo {x};; esac)"': "behind case in $( )",
    }.items():
        with pytest.raises(UsageError) as error:
            Template(f"prog {place}")
        assert f"{{x}} stands {reason}" in str(error.value)
        assert Template(f"prog {place.replace('{x}', '{x:raw}')}").fill({"x": "5"})


def test_plain_values_stay_plain_so_that_no_shell_is_needed() -> None:
    template = Template("prog -i {x} -o /data/out_{x}.root --n={y}")
    assert template.fill({"x": "a-b_1.root", "y": "1e+5"}) == "prog -i a-b_1.root -o /data/out_a-b_1.root.root --n=1e+5"
