"""Which lines need a shell, and which shell they get: bash means what the user tried in a terminal.

Three spellings, the later ones only because they are cheaper, and only where no result can differ:

    bash -c LINE    anything
    sh -c LINE      a plain list (`a; b`, `a && b > out`) where sh is dash, which starts in half the time
    direct          one plain command

*Plain* words hold nothing that a shell would look at twice. A first word must not be a keyword, a builtin or an
exported function, because then the shell would run something else than the program of that name.
"""

import os
import re
from typing import Mapping, NamedTuple

from taskfarmer.system.launching import TOLD_ON

MODES = ("auto", "always", "never")

_WORD = r"[A-Za-z0-9_./,:+@%=-]+"
_COMMAND = rf"{_WORD}(?:[ \t]+{_WORD})*"
_REDIRECTION = r"(?:[ \t]+(?:[12]?>>?[ \t]*/dev/null|2>&1))*"
_STEP = rf"{_COMMAND}{_REDIRECTION}"
_OPERATOR = r"[ \t]*(?:;|&&|\|\||\|)[ \t]*"
_PLAIN = re.compile(_COMMAND)
_PLAIN_LIST = re.compile(rf"{_STEP}(?:{_OPERATOR}{_STEP})*(?:[ \t]*;)?")
_NEXT_STEP = re.compile(_OPERATOR)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_KEYWORDS = frozenset(
    [
        "if",
        "then",
        "else",
        "elif",
        "fi",
        "case",
        "esac",
        "for",
        "select",
        "while",
        "until",
        "do",
        "done",
        "in",
        "function",
        "time",
        "coproc",
    ]
)
#: bash 5.2's builtins and dash's `chdir`; `true` and `false` are left out: the programs do the same.
_BUILTINS = frozenset(
    [
        ".",
        ":",
        "alias",
        "bg",
        "bind",
        "break",
        "builtin",
        "caller",
        "cd",
        "chdir",
        "command",
        "compgen",
        "complete",
        "compopt",
        "continue",
        "declare",
        "dirs",
        "disown",
        "echo",
        "enable",
        "eval",
        "exec",
        "exit",
        "export",
        "fc",
        "fg",
        "getopts",
        "hash",
        "help",
        "history",
        "jobs",
        "kill",
        "let",
        "local",
        "logout",
        "mapfile",
        "popd",
        "printf",
        "pushd",
        "pwd",
        "read",
        "readarray",
        "readonly",
        "return",
        "set",
        "shift",
        "shopt",
        "source",
        "suspend",
        "test",
        "times",
        "trap",
        "type",
        "typeset",
        "ulimit",
        "umask",
        "unalias",
        "unset",
        "wait",
    ]
)
_TELL = f"{{ printf %s >&{TOLD_ON}; }} 2> /dev/null || :"
_LEFT = 'echo "pytaskfarmer: before the command: the shell was left" >&2; exit 1'
#: What fails in the first lines ends the task, with a sentence; what fails inside a sourced script or a function does not.
_BEGIN = f"""\
_pytaskfarmer() {{ [ ${{#FUNCNAME[@]}} -gt 1 ] || {{ trap - EXIT; echo "pytaskfarmer: before the command: $2: exit $1" >&2; exit $1; }}; }}
trap '_pytaskfarmer $? "$BASH_COMMAND"' ERR
trap '{_LEFT}' EXIT
{_TELL % "s"}
"""
# An empty line first: a backslash at the end of the setup would take the next one with it.
_END = f"""

trap - ERR EXIT; unset -f _pytaskfarmer; {_TELL % "c"}; exec {TOLD_ON}>&-
"""
#: The same for SETUP && COMMAND, of which only how it ends counts.
_BEGIN_BOTH = f"""\
_pytaskfarmer() {{ trap - EXIT; unset -f _pytaskfarmer; {_TELL % "c"}; exec {TOLD_ON}>&-; }}
trap 'case $? in 0) {_LEFT} ;; esac' EXIT
{_TELL % "s"}
"""
_END_BOTH = " && _pytaskfarmer"
#: The same for any shell.
_BEGIN_SH = f"""\
trap 'case $? in 0) {_LEFT} ;; esac' EXIT
set -e
"""
_END_SH = """

set +e; trap - EXIT
"""
_OURS = (_BEGIN, _END, _BEGIN_BOTH, _END_BOTH, _BEGIN_SH, _END_SH)
_NAMED = re.compile(r" \|\| _pytaskfarmer \$\? .*")
_ONE_COMMAND = re.compile(r"[^;&|#\n]*")
_HARMLESS = frozenset(("true", "false"))
#: Variables that change what a shell makes of a plain line.
_UNSETTLING = ("BASH_ENV", "ENV", "SHELLOPTS", "BASHOPTS", "POSIXLY_CORRECT")


class Shells(NamedTuple):
    """What this host and this environment offer: facts, gathered once per worker."""

    bash: str
    dash: str | None
    functions: frozenset[str]
    plain_is_safe: bool

    @classmethod
    def here(cls, env: Mapping[str, str]) -> "Shells":
        """The shells of this host, seen with this environment."""
        bash = "/bin/bash" if os.access("/bin/bash", os.X_OK) else "/bin/sh"
        # dash drops variables whose names are none, exported functions among them.
        names_are_names = all(_NAME.fullmatch(name) for name in env)
        dash = "/bin/sh" if os.path.basename(os.path.realpath("/bin/sh")) == "dash" and names_are_names else None
        functions = frozenset(
            name.removeprefix("BASH_FUNC_").removesuffix("%%").removesuffix("()")
            for name in env
            if name.startswith("BASH_FUNC_")
        )
        return cls(bash, dash, functions, "PATH" in env and not any(name in env for name in _UNSETTLING))


def direct_words(line: str, shells: Shells) -> list[str] | None:
    """The words of a line that may be started without a shell; None if it needs one."""
    if not shells.plain_is_safe or not _PLAIN.fullmatch(line):
        return None
    words = line.split()
    return words if _is_a_program(words[0], shells) else None


def programs_of_plain_list(line: str, shells: Shells) -> list[str] | None:
    """The programs a plain list names, if sh would treat it as bash does, and if their files are no bare scripts."""
    if shells.dash is None or not shells.plain_is_safe or not _PLAIN_LIST.fullmatch(line):
        return None
    firsts = [step.split(None, 1)[0] for step in _NEXT_STEP.split(line.rstrip(" \t;"))]
    if not all(_is_a_program(first, shells) for first in firsts):
        return None
    return [first for first in firsts if first not in _HARMLESS]


def _is_a_program(word: str, shells: Shells) -> bool:
    if "=" in word or word[0] == "%" or word in _KEYWORDS or word in shells.functions:
        return False
    return word not in _BUILTINS


def guarded(setup: str, command: str, bash: bool = True) -> str:
    """A script that runs the lines of `setup`, each of which must succeed, and then the command, in the same shell."""
    begin, end = (_BEGIN, _END) if bash else (_BEGIN_SH, _END_SH)
    return f"{begin}{setup}{end}{command}"


def checked(line: str) -> str:
    """A line of a setup that is named as it is written when it fails, whatever has failed in it."""
    import shlex

    return f"{line} || _pytaskfarmer $? {shlex.quote(line)}"


def both(setup: str, command: str) -> str:
    """`SETUP && COMMAND`, where all of the command is meant."""
    all_of_it = command if _ONE_COMMAND.fullmatch(command) else f"{{\n{command}\n}}"
    return f"{_BEGIN_BOTH}{setup}{_END_BOTH} && {all_of_it}"


def for_eyes(script: str) -> str:
    """A script as the user would write it: without what watches over the setup."""
    for ours in _OURS:
        script = script.replace(ours, "\n" if ours[0] == "\n" else "", 1)
    return _NAMED.sub("", script)


def in_image(setup: str, command: str, shell: str) -> tuple[str, ...]:
    """What a shell of an image is told, to run `setup` and the command."""
    return words_of(guarded(setup, command, is_bash(shell)) if setup else command)


def is_bash(shell: str) -> bool:
    """Whether a shell, by name or path, is bash."""
    return os.path.basename(shell) == "bash"


def words_of(command: str) -> tuple[str, ...]:
    """The words that make a shell run a command."""
    options = ("-c", "--") if command[:1] in "-+" else ("-c",)  # or the line would be read as an option
    return (*options, command)
