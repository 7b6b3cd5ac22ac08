"""Handlers from INI files, through the whole program: what is stored, what runs, and what a change of list means."""

from __future__ import annotations

import pytest
from conftest import Farm

pytestmark = pytest.mark.quick

TEMPLATE = """[t]
TaskList = taskfarmer.tasklists.TemplateTaskList
command = printf '%s\\n' {line} >> done
"""
NASTY = ["a b", "it's", '"', "$(>pwned)", "`>pwned`", "100% $HOME", "-n", "größe", "\udcff", "a;b", "#", "\\", "~"]


def define(farm: Farm, text: str, name: str = "lists.ini") -> None:
    (farm.folder / name).write_text(text)
    (farm.folder / name).chmod(0o644)


def done(farm: Farm) -> list[str]:
    return sorted((farm.folder / "done").read_text(errors="surrogateescape").splitlines())


def test_what_is_in_a_list_reaches_the_program_and_nothing_of_it_is_run(farm: Farm) -> None:
    define(farm, TEMPLATE)
    farm.tasklist.write_text("".join(f"x{value}\n{value}x\n" for value in NASTY), errors="surrogateescape")
    farm.run("-t", "t", check=0)
    expected = [f"x{value}" for value in NASTY] + [f"{value}x" for value in NASTY if value != "#"]
    assert done(farm) == sorted(expected)
    assert not (farm.folder / "pwned").exists()


def test_a_newline_in_a_value_takes_one_line_of_the_files_and_reaches_the_program(farm: Farm) -> None:
    define(farm, "[t]\nTaskList = taskfarmer.tasklists.TableTaskList\ncommand = printf %s {text}\n")
    farm.tasklist.write_text('text\n"one\n\ntwo\n"\n')
    farm.run("-t", "t", check=0)
    assert farm.log(0) == "one\n\ntwo\n"
    farm.assert_each_task_stands_once(1)


def test_lines_at_the_end_of_a_list_are_new_tasks(farm: Farm) -> None:
    define(farm, TEMPLATE)
    farm.write("a", "b").run("-t", "t", check=0)
    farm.write("a", "b", "c")
    assert "1 line new" in farm.run("-t", "t", check=0).stdout
    assert done(farm) == ["a", "b", "c"]


def test_another_command_for_the_same_list_is_another_list(farm: Farm) -> None:
    define(farm, TEMPLATE)
    farm.write("a", "b").run("-t", "t", check=0)
    define(farm, TEMPLATE.replace("%s", "new %s"))
    assert "belongs to another list" in farm.run("-t", "t", check=2).stderr
    assert done(farm) == ["a", "b"]
    farm.run("-t", "t", "--replace", check=0)
    assert done(farm) == ["a", "b", "new a", "new b"]


def test_a_sweep_that_grows_keeps_what_is_done(farm: Farm) -> None:
    sweep = "[s]\nTaskList = taskfarmer.tasklists.SweepTaskList\ncommand = echo {y} {x} >> done\ny = 1..2\nx = a, b\n"
    define(farm, sweep, "study.ini")
    assert farm.call("-t", "s", "study.ini").returncode == 0
    define(farm, f"{sweep}    c\n", "study.ini")
    again = farm.call("-t", "s", "study.ini")
    assert again.returncode == 0 and "2 lines new" in again.stdout
    assert done(farm) == ["1 a", "1 b", "1 c", "2 a", "2 b", "2 c"]


def test_a_table_that_cannot_be_read_is_told_and_once_mended_it_runs(farm: Farm) -> None:
    define(farm, "[t]\nTaskList = taskfarmer.tasklists.TableTaskList\ncommand = echo {a} {b} >> done\n")
    told = farm.write("a,b", "1,2", "3").run("-t", "t", check=2)
    assert "tasks.txt, line 3: 2 values are wanted (a, b), found 1: '3'" in told.stderr
    assert "Traceback" not in told.stderr
    farm.write("a,b", "1,2", "3,4").run("-t", "t", check=0)
    assert done(farm) == ["1 2", "3 4"]


def test_a_class_of_the_users_next_to_the_ini_file_makes_the_commands(farm: Farm) -> None:
    (farm.folder / "mylists.py").write_text(
        "from taskfarmer.task import ListTaskList\n\n\n"
        "class Greet(ListTaskList):\n"
        '    """Greets everybody in the list."""\n\n'
        "    def __init__(self, path, workdir, word='hello', **kwargs):\n"
        "        super().__init__(path, workdir)\n"
        "        self.word = word\n\n"
        "    def __getitem__(self, taskid):\n"
        "        return f'echo {self.word} {self.tasks[taskid]} >> done'\n"
    )
    define(farm, "[greet]\nTaskList = mylists.Greet\nword = good 100%% $(echo morning)\nother = 1\n")
    farm.write("Ada", "# nobody", "Alan").run("-t", "greet", check=0)
    assert done(farm) == ["good 100%% morning Ada", "good 100%% morning Alan"]
    assert "0 echo good 100%% $(echo morning) Ada >> done" in farm.lines("finished")


def test_a_workdir_of_the_ancestors_goes_on_under_a_template(farm: Farm) -> None:
    """Its files hold the lines of the list and not the commands; what counts are the numbers."""
    define(farm, TEMPLATE)
    farm.write("a", "b", "c")
    farm.workdir.mkdir()
    (farm.workdir / "finished").write_text("0 a\n")
    (farm.workdir / "toprocess").write_text("1 b\n2 c\n")
    farm.run("-t", "t", check=0)
    assert done(farm) == ["b", "c"]
    farm.assert_each_task_stands_once(3)
