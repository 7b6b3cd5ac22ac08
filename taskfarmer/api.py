"""The verbs, as functions: the only place where the parts are joined. Nothing here prints."""

import os
import stat
import time
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Callable, Iterator, NamedTuple, Sequence

from taskfarmer.errors import DiskError, FarmError, Fenced, Interrupted, LockBusy, UsageError
from taskfarmer.farm.choices import Choices, room_of
from taskfarmer.farm.notices import Notice, Requeue, Summary, Trouble
from taskfarmer.farm.stop import Stop
from taskfarmer.farm.tally import Tally
from taskfarmer.model import Launch, Owner, Slot, State, Task
from taskfarmer.runners.base import Runner, runs_itself, spell
from taskfarmer.settings.definitions import BUILT_IN, Definition
from taskfarmer.settings.plugins import Loaded
from taskfarmer.stores.base import Added
from taskfarmer.stores.folder import check_rights
from taskfarmer.stores.lines import check_command
from taskfarmer.stores.owners import DEAD_AFTER
from taskfarmer.stores.textfiles import TextStore
from taskfarmer.stores.workdir import Workdir
from taskfarmer.system import files, job, leftovers, process, resources
from taskfarmer.system.lock import is_local
from taskfarmer.tasklists.base import TaskList

if TYPE_CHECKING:
    from taskfarmer.farm.doctor import Doctor, DoctorOptions
    from taskfarmer.farm.jobtime import JobTime

DEFAULT_SLOTS = 8
_KINDS = {
    stat.S_IFDIR: "folder",
    stat.S_IFIFO: "pipe",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
    stat.S_IFSOCK: "socket",
}
_PATIENCE_AT_THE_END = 10.0


class RunOptions(NamedTuple):
    """What `run` was asked for. Times in seconds, sizes in bytes; `slots` None means the default, 0 every usable core."""

    workdir: str | None = None
    slots: int | None = None
    runner: str = "default"
    tasklist_handler: str = "default"
    config: Sequence[str] = ()
    overlap: bool = False
    timeout: float | None = None
    task_timeout: float | None = None
    grace: float = 5.0
    retries: int = 0
    retry_delay: float = 0.0
    max_failures: int | None = None
    shell: str = "auto"
    logs: str = "all"
    log_limit: int = 0
    lock: str = "flock"
    lock_dir: str | None = None
    shared: bool = False
    replace: bool = False
    keep_mpi_env: bool = False
    tell_finished: bool = False
    walltime: float | None = None
    margin: float = 60.0
    expect: float | None = None
    requeue: bool = False
    sick_node_stop: bool = True
    dead_after: float = DEAD_AFTER
    wait_for_others: bool = False


class Start(NamedTuple):
    """What a run is about to do. `room`: for how many tasks the job has room, where the runner knows."""

    tasklist: str
    workdir: str
    owner: Owner
    added: Added
    slots: int
    asked_slots: int | None
    usable_cores: int
    machine_cores: int
    shell: str
    runner: Definition = BUILT_IN["runner"]
    tasklist_handler: Definition = BUILT_IN["tasklist"]
    room: int | None = None


class Status(NamedTuple):
    """How a farm stands. `running` says who runs which task; `failed` the first failed tasks; `gone` which of those
    who run tasks are dead, so that their tasks will be taken over."""

    workdir: str
    counts: dict[State, int]
    running: list[tuple[Task, Owner]]
    gone: set[Owner]
    failed: list[Task]


def run(
    tasklist: str,
    options: RunOptions,
    on_start: Callable[[Start], None],
    tell: Callable[[Notice], None],
    for_good: bool = False,
) -> Summary:
    """Work through a tasklist until nothing is left or something stops us. Raises FarmError with a sentence.

    `for_good`: the process ends after this, and a signal that comes then shall not change its exit status any more.
    """
    with Stop(options.timeout, for_good) as stop:
        return _run(tasklist, options, on_start, stop, tell)


def _run(
    tasklist: str,
    options: RunOptions,
    on_start: Callable[[Start], None],
    stop: Stop,
    tell: Callable[[Notice], None],
) -> Summary:
    from taskfarmer.farm.jobtime import JobTime

    job_time = JobTime(options.walltime, options.margin, time.monotonic(), tell)
    if options.requeue:
        check_requeue()
    workdir_path = options.workdir or default_workdir(tasklist)
    choices = _choices(tasklist, options, tell)
    runner = choices.runner(options.runner, options.shell, options.overlap)
    reader = choices.reader(options.tasklist_handler)
    handler = reader.build(tasklist, workdir_path)
    room = room_of(runner)
    slots = room if room and options.slots is None else _slots(options.slots)

    def open_store() -> TextStore:
        workdir = Workdir(
            workdir_path, process.new_owner(), options.lock, options.lock_dir, options.shared, say_waiting,
            options.dead_after,
        )  # fmt: skip
        return TextStore(workdir, options.retries, lambda message: tell(Trouble(message)))

    def say_waiting(holder: str) -> None:
        tell(Trouble(f"waiting for the lock of {workdir_path}, held by {holder}"))

    def heed_stop() -> None:
        if request := stop.request:
            raise Interrupted(f"stopped ({request.reason}) while others kept the lock of {workdir_path}")

    store = open_store()
    try:
        tasks = _Tasks(tasklist, handler, reader, stop)
        with store.waiting_with(heed_stop):
            added = store.load(tasks, reader.definition.identity, options.replace)
        start = Start(
            tasklist, workdir_path, store.owner, added, slots, options.slots,
            resources.usable_cores(), resources.machine_cores(), _shell_note(options.shell),
            runner.definition, reader.definition, room,
        )  # fmt: skip
        on_start(start)
        tally = Tally(slots, added)
        while True:
            try:
                return _farm(store, slots, runner, options, added, tally, stop, tell, job_time)
            except Fenced as error:
                tell(Trouble(f"{error}. What it still ran of them is ended; it goes on under a new name"))
            store.close()
            store = open_store()
            with store.waiting_with(heed_stop):
                added = store.load(tasks, reader.definition.identity)
    except OSError as error:
        if error.errno not in files.DISK_TROUBLE:
            raise
        raise DiskError(f"{error.filename or workdir_path}: {error.strerror}") from error
    finally:
        job_time.close()
        store.close()


def _farm(
    store: TextStore,
    slots: int,
    runner: Loaded,
    options: RunOptions,
    before: Added,
    tally: Tally,
    stop: Stop,
    tell: Callable[[Notice], None],
    job_time: "JobTime",
) -> Summary:
    from taskfarmer.farm.environment import SLOT_VARIABLE
    from taskfarmer.farm.farmer import Farmer
    from taskfarmer.farm.heartbeat import Contact
    from taskfarmer.farm.orders import Setup
    from taskfarmer.farm.policy import Policy
    from taskfarmer.farm.pool import Crew
    from taskfarmer.farm.timeline import Timeline

    owner, shared, folder = store.owner, store.shared, os.path.abspath(store.path)
    contact = None if is_local(folder) else Contact(options.dead_after)
    setup = Setup(
        owner, folder, shared, (runner.cls, runner.options), options.logs, options.log_limit,
        options.task_timeout, options.grace, options.keep_mpi_env, contact,
    )  # fmt: skip
    policy = Policy(
        options.retries, options.retry_delay, options.max_failures, options.grace, options.tell_finished,
        job_time.end, options.expect, options.sick_node_stop, options.dead_after, bool(owner.job), options.wait_for_others,
    )  # fmt: skip
    timeline = Timeline(os.path.join(folder, "timeline.json"), owner, shared)

    def end_leftovers(slot: int, worker: int, patience: float | None) -> str:
        marks = f"{process.OWNER_VARIABLE}={owner}", f"{SLOT_VARIABLE}={slot}"
        leaders = store.leaders(slot)
        leftovers.kill_marked(*marks, leaders=leaders, name=process.worker_name(worker), patience=patience)
        return leftovers.runs_on(*marks, leaders=leaders)

    presence = store.join(slots)
    try:
        if any(other.host == owner.host for other in store.of_my_job()):
            tell(Trouble(f"another farmer of job {owner.job} works on this node: did you mean --ntasks-per-node=1?"))
        with Crew(slots, setup, stop.fileno()) as crew:
            farmer = Farmer(
                store, before, tally, presence, contact, crew, slots, stop, timeline, policy, end_leftovers, tell
            )
            with store.waiting_with(farmer.heed_while_waiting):
                summary = farmer.run()
        return summary._replace(requeue=_requeue(store, summary, before, tell)) if options.requeue else summary
    finally:
        store.leave()
        presence.close()


def _requeue(store: TextStore, summary: Summary, before: Added, tell: Callable[[Notice], None]) -> Requeue:
    """Leave, and find out whether it is ours to have the job started again."""
    from taskfarmer.farm.requeue import decide

    if summary.gave_up is not None:
        return Requeue.NO
    patience = time.monotonic() + _PATIENCE_AT_THE_END

    def heed_time() -> None:
        if time.monotonic() > patience:
            raise LockBusy("others keep the lock: whether this farmer is the last of its job to leave is not known")

    try:
        with store.waiting_with(heed_time):
            parting = store.leave_job()
    except LockBusy as error:
        tell(Trouble(f"{error}, so the job is not started again"))
        return Requeue.NO
    return decide(summary, parting, before.finished + before.failed)


def check_requeue() -> None:
    """Raise UsageError where there is no job that could be started again."""
    job.check_requeue(os.environ)


def requeue() -> None:
    """Have Slurm start this job again. It ends all that still runs in it, us included."""
    job.requeue(os.environ)


class _Tasks:
    """What a tasklist handler reads. Reading ends when a stop is asked for: loading is all or nothing, so nothing has
    happened. What goes wrong in a user's class is told as such."""

    def __init__(self, path: str, handler: TaskList, reader: Loaded, stop: Stop | None = None) -> None:
        self.path = path
        self.appended_lines_are_new: bool = getattr(handler, "appended_lines_are_new", False)
        self._handler = handler
        self._reader = reader
        self._stop = stop

    def __iter__(self) -> Iterator[str]:
        try:
            for index, command in enumerate(self._handler):
                if index % 4096 == 4095 and self._stop and (request := self._stop.request):
                    raise Interrupted(f"stopped ({request.reason}) while the list was read; nothing was started")
                if not isinstance(command, str):
                    raise TypeError(f"command {index} is no text: {command!r:.80}")
                yield command
        except FarmError:
            raise
        except (Exception, SystemExit) as error:
            if isinstance(error, OSError) and error.errno in files.DISK_TROUBLE:
                raise
            raise self._reader.failed("cannot read the list", error) from error


def status(farm: str, workdir: str | None = None, most_failed: int = 1000) -> Status:
    """How a farm stands."""
    with _open(farm, workdir) as store:
        counts = store.counts()
        running = [(record.task, record.owner) for record in store.records(State.RUNNING) if record.owner]
        gone = {owner for owner in {owner for _, owner in running} if not store.lives(owner)}
        with closing(store.records(State.FAILED)) as records:
            failed = [record.task for record in islice(records, most_failed)]
        return Status(store.path, counts, running, gone, failed)


def retry(farm: str, workdir: str | None = None, ids: Sequence[int] | None = None) -> int:
    """Put failed tasks, all or those named, back to be run again; return how many."""
    with _open(farm, workdir) as store:
        return store.requeue(ids)


def launches(tasklist: str, options: RunOptions, tell: Callable[[Notice], None]) -> Iterator[tuple[Task, Launch]]:
    """Each task of a list, and how it would be started. Touches nothing."""
    choices = _choices(tasklist, options, tell)
    chosen = choices.runner(options.runner, options.shell, options.overlap)
    runner: Runner = chosen.build()
    reader = choices.reader(options.tasklist_handler)
    handler = reader.build(tasklist, options.workdir or default_workdir(tasklist))
    for id, command in enumerate(_Tasks(tasklist, handler, reader)):
        check_command(id, command)
        task = Task(id, command)
        if runs_itself(runner):
            yield task, Launch("", (f"{type(runner).__name__}.run", command))
            continue
        try:
            launch = spell(runner, task, Slot(0))
        except FarmError:
            raise
        except (Exception, SystemExit) as error:
            raise chosen.failed(f"cannot start task {id}", error) from error
        yield task, launch


def doctor(folder: str, options: "DoctorOptions", on_wait: Callable[[str, int], None]) -> "Doctor":
    """Find out what the filesystem of a folder is worth to a farm; alone, or with the like of us on other hosts.

    `on_wait` hears, once, where we wait for how many others. Nothing is left behind in the folder.
    """
    from taskfarmer.farm.doctor import examine

    with Stop() as stop:

        def check() -> None:
            if request := stop.request:
                raise Interrupted(f"stopped ({request.reason})")

        try:
            return examine(folder, options, check, on_wait)
        except DiskError as error:
            raise UsageError(f"{folder}: nothing can be found out: {error}") from error
        except OSError as error:
            raise UsageError(f"{folder}: nothing can be found out: {error.strerror}") from error


def default_workdir(tasklist: str) -> str:
    """`LIST_workdir`, beside the list."""
    return f"{tasklist}_workdir"


class _open:
    """The store of an existing farm, named by its tasklist or its workdir."""

    def __init__(self, farm: str, workdir: str | None) -> None:
        path = workdir or (farm if os.path.isdir(farm) else default_workdir(farm))
        advice = (
            f"A farm is locked to be looked at; who may only read it finds the same in {path}/finished, failed, ..."
        )
        check_rights(path, advice)
        if not os.path.exists(os.path.join(path, "farm.json")):
            where = "" if os.path.isabs(path) else f" (in {here()})"
            raise UsageError(f"{path}: there is no farm here{where}. Give a tasklist that was run, or its workdir")
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            raise UsageError(f"{path}: Read-only file system. {advice}")
        self._store = TextStore(Workdir(path, process.new_owner()))
        if self._store.is_new:
            raise UsageError(f"{path}: no list was loaded here yet")

    def __enter__(self) -> TextStore:
        return self._store

    def __exit__(self, *exc: object) -> None:
        self._store.close()


def _choices(tasklist: str, options: RunOptions, tell: Callable[[Notice], None]) -> Choices:
    try:
        kind = _KINDS.get(stat.S_IFMT(os.stat(tasklist).st_mode))
        if kind is None:
            with open(tasklist, "rb"):
                pass
    except FileNotFoundError as error:
        where = "" if os.path.isabs(tasklist) else f" (in {here()})"
        raise UsageError(f"{tasklist}: no such file{where}") from error
    except OSError as error:
        raise UsageError(f"{tasklist}: cannot be read: {error.strerror}") from error
    if kind is not None:
        # Of what can be read only once, nobody could say at the next start whether it is the same list.
        write = "" if kind == "folder" else ". Write the commands to a file first"
        raise UsageError(f"{tasklist}: a tasklist is a file, this is a {kind}{write}")
    return Choices(tasklist, options.config, lambda message: tell(Trouble(message)))


def here() -> str:
    """The current directory, as a person is told of it."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "a directory that was removed"


def _slots(asked: int | None) -> int:
    if asked is None:
        return DEFAULT_SLOTS
    return asked or resources.usable_cores()


def _shell_note(mode: str) -> str:
    if mode != "never" and not os.access("/bin/bash", os.X_OK):
        return "commands go to /bin/sh: there is no /bin/bash here"
    return ""
