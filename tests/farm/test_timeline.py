"""`timeline.json` is what Perfetto reads: valid JSON after each append and after any torn one."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections import defaultdict
from pathlib import Path

import pytest
from conftest import Farm, wait_until
from farmhands import children_of, ended, kill

from taskfarmer.farm import timeline as timeline_module
from taskfarmer.farm.timeline import Timeline
from taskfarmer.model import Attempt, Claim, Outcome, Owner

pytestmark = pytest.mark.quick

OWNER = Owner("n1", 4711, 99, "abcdef")


def events(farm: Farm) -> list[dict]:
    return json.loads((farm.workdir / "timeline.json").read_text(encoding="ascii"))


def tasks(found: list[dict]) -> list[dict]:
    return [event for event in found if event["ph"] == "X"]


def assert_well_formed(path: Path) -> None:
    """What Perfetto needs: numeric ids, and slices of one thread that do not overlap. And what we promise of sizes."""
    text = path.read_text(encoding="ascii")
    found = json.loads(text)
    tracks = defaultdict(list)
    for event in found:
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        if event["ph"] == "X":
            tracks[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for slices in tracks.values():
        slices.sort()
        assert all(end <= begin for (_, end), (begin, _) in zip(slices, slices[1:])), slices
    assert max(len(line) for line in text.splitlines()) <= 400


def an_attempt(id: int, command: str = "true") -> Attempt:
    return Attempt(Claim(id, id, 1, 0, command), Outcome.FINISHED, 0, 1e9 + id, 0.5, 0.1, 30000, id % 2)


def test_each_attempt_is_told_with_how_it_ended_and_what_it_used(farm: Farm) -> None:
    burn = "python3 -c \"import time; x = b'x' * 90_000_000; any(time.process_time() > 0.3 for _ in iter(int, 1))\""
    farm.write(burn, "exit 3", "[ $TASKFARMER_ATTEMPT = 2 ]", "kill -9 $$").run("-n", "2", "--retries", "1", check=1)
    assert_well_formed(farm.workdir / "timeline.json")
    by_task = defaultdict(list)
    for event in tasks(events(farm)):
        by_task[event["args"]["task"]].append(event)
    assert {id: [event["args"]["outcome"] for event in told] for id, told in by_task.items()} == {
        0: ["finished"], 1: ["failed"] * 2, 2: ["failed", "finished"], 3: ["killed"] * 2,
    }  # fmt: skip
    assert [event["args"]["status"] for event in by_task[1]] == [3, 3]
    assert [event["args"]["attempt"] for event in by_task[2]] == [1, 2]
    assert by_task[3][0]["args"]["status"] == 9
    args = by_task[0][0]["args"]
    assert args["host"] == os.uname().nodename
    assert args["cpu_s"] >= 0.3
    assert 85_000 < args["peak_KiB"] < 300_000
    assert by_task[0][0]["dur"] >= 300_000
    assert by_task[1][0]["name"].startswith("1 exit 3")
    assert {event["name"] for event in events(farm) if event["ph"] == "M"} == {"process_name", "thread_name"}


def test_it_is_valid_json_whenever_it_is_read(farm: Farm) -> None:
    """Two farmers append while we read."""
    farmers = [farm.write(*["sleep 0.01"] * 5000).start("-n", "2") for _ in range(2)]
    path = farm.workdir / "timeline.json"
    seen = set()

    def grown() -> bool:
        if path.exists() and (before := path.stat()).st_size:
            text = path.read_bytes()
            if path.stat().st_mtime_ns == before.st_mtime_ns:  # not amid an append
                seen.add(len(json.loads(text)))
        return len(seen) >= 3

    wait_until(grown, what="three appends")
    for farmer in farmers:
        farmer.terminate()
        assert ended(farmer)[0] == 75
    assert_well_formed(path)
    done = len(farm.ids("finished"))
    assert done <= len(tasks(events(farm))) <= done + 4


def test_odd_commands_make_valid_events_of_at_most_400_bytes(farm: Farm) -> None:
    odd = [b": " + bytes(range(0x80, 0x100)) * 3, b': "' + b'"' * 300 + b'"', b": '" + b"\\" * 500 + b"'", b": " + "ü€𝄞".encode() * 200,
           b": \x01\x02\x1b[31m", b": " + b"x" * 5000, b":\t" + b"\t" * 400 + b"x"]  # fmt: skip
    farm.tasklist.write_bytes(b"\n".join(odd) + b"\n")
    farm.run(check=0)
    assert_well_formed(farm.workdir / "timeline.json")
    assert len(tasks(events(farm))) == len(odd)


def test_a_torn_tail_is_repaired_by_the_next_writer_wherever_it_was_cut(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole", tmp_path / "timeline.json"
    timeline = Timeline(str(whole), OWNER)
    for id in range(6):
        timeline.attempt(an_attempt(id, 'echo "}\n{'))
    timeline.flush()
    content = whole.read_bytes()
    last = content.rindex(b"\n{") - 1
    for cut in range(last, len(content)):
        path.write_bytes(content[:cut])
        again = Timeline(str(path), OWNER)
        again.attempt(an_attempt(77))
        again.flush()
        found = [event["args"]["task"] for event in tasks(json.loads(path.read_text()))]
        assert found[:5] == [0, 1, 2, 3, 4], f"cut at {cut}"
        assert found[-1] == 77
        assert len(found) <= 7


def test_a_timeline_cut_to_nearly_nothing_is_begun_again(tmp_path: Path) -> None:
    for torn in (b"", b"[", b"[\n", b"[\n{", b'[\n{"ph":"M","na', b"garbage", b"[\n]\n", b"\0" * 5000):
        path = tmp_path / "timeline.json"
        path.write_bytes(torn)
        timeline = Timeline(str(path), OWNER)
        timeline.attempt(an_attempt(1))
        timeline.flush()
        assert [event["args"]["task"] for event in tasks(json.loads(path.read_text()))] == [1], torn


def test_the_farm_repairs_a_torn_timeline(farm: Farm) -> None:
    farm.write("true", "true", "[ -e go ]").run("-n", "1", check=1)
    path = farm.workdir / "timeline.json"
    content = path.read_bytes()
    shutil.copy(path, farm.folder / "copy")
    path.write_bytes(content[:-60])
    (farm.folder / "go").touch()
    assert farm.call("retry", "tasks.txt", "--run").returncode == 0
    assert_well_formed(path)
    assert [event["args"]["task"] for event in tasks(events(farm))] == [0, 1, 2]
    assert events(farm)[-1]["args"]["outcome"] == "finished"


def test_a_lost_worker_leaves_no_overlap(farm: Farm) -> None:
    farm.write(*["sleep 0.02"] * 60)
    farmer = farm.start("-n", "2")
    wait_until(lambda: len(farm.lines("finished")) > 5, what="progress")
    kill(children_of(farmer.pid)[:1], signal.SIGKILL)
    assert ended(farmer)[0] == 0
    assert_well_formed(farm.workdir / "timeline.json")
    assert {event["args"]["task"] for event in tasks(events(farm)) if event["args"]["outcome"] == "finished"} == set(
        range(60)
    )


def test_a_timeline_that_cannot_be_written_costs_events_and_not_the_farm(farm: Farm) -> None:
    farm.workdir.mkdir()
    (farm.workdir / "timeline.json").mkdir()
    farm.write("true").run(check=0)


def test_of_what_a_disk_refuses_for_long_only_so_much_is_kept_and_the_rest_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "timeline.json"
    path.mkdir()  # nothing can be written there
    timeline = Timeline(str(path), OWNER)
    for id in range(timeline_module._MOST + 500):
        timeline.attempt(an_attempt(id))
        if id % 1000 == 0:
            timeline.flush()
    timeline.instant("so it goes")
    path.rmdir()
    timeline.flush()
    timeline.instant("and on")
    timeline.flush()
    assert_well_formed(path)
    told = json.loads(path.read_text())
    kept = len(tasks(told))
    assert len(told) == timeline_module._MOST + 2
    assert [event["args"]["task"] for event in tasks(told)] == list(range(kept))
    said = [event["name"] for event in told if event["ph"] == "i"]
    assert said == [f"{timeline_module._MOST + 501 - kept} events are missing here: the disk refused them", "and on"]


def test_a_long_timeline_is_appended_to_and_not_read(tmp_path: Path) -> None:
    """O(1): what stands before the last 64 KiB is neither read nor written, so it may as well be a hole."""
    path = tmp_path / "timeline.json"
    with open(path, "wb") as file:
        file.write(b"[\n")
        file.seek(1 << 34)
        file.write(b'\n{"ph":"i","pid":1,"tid":0}\n]\n')
    timeline = Timeline(str(path), OWNER)
    timeline.attempt(an_attempt(1))
    timeline.flush()
    assert path.stat().st_blocks * 512 < 1 << 20
    with open(path, "rb") as file:
        file.seek((1 << 34) + 1)
        assert [event["ph"] for event in json.loads(b"[" + file.read())] == ["i", "M", "M", "X"]
