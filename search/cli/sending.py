"""Commands that are sent to a cluster from outside, by `--address http://…`, instead of being run here."""

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from results.cli.commands import STOPPED
from results.cli.terminal import Terminal
from results.errors import ResultsError
from results.plain import several
from results.storage import Storage
from search.errors import SearchError, SpecError, TaskError

if TYPE_CHECKING:
    from search.parcel import Parcel
    from search.spec import SweepSpec
    from search.submission import Job

ADDRESS_HELP = "A Ray cluster that runs: `auto` from one of its machines, http://127.0.0.1:8265 from outside."

follow_option = click.option(
    "--follow/--no-follow",
    default=True,
    show_default=True,
    help="With an --address http://…: show what it prints there, until it ends.",
)

asked_there_option = click.option(
    "--address",
    metavar="ADDRESS",
    help="Ask on a cluster, by http://127.0.0.1:8265 for example; for a storage that this machine does not see.",
)


def sends() -> bool:
    """Whether the command that was typed goes to a cluster.

    Raises:
        SpecError: it has an address that nothing can be sent to, and nothing else to do with one.
    """
    from search.submission import is_job_server

    params = click.get_current_context().params
    address = params.get("address")
    if address is not None and "follow" not in params and not is_job_server(address):
        raise SpecError(f"--address {address}: expected that of a cluster's dashboard, such as http://127.0.0.1:8265")
    return is_job_server(address)


def send_sweep(terminal: Terminal, spec: "SweepSpec", file: Path) -> None:
    """Sends `search run` with its sweep file, once that is found in order here."""
    from search.folders import folder_of
    from search.submission import check_shared

    check_shared(spec.storage, "--storage" if _given("storage") else f"{file}: storage")
    _check(spec, terminal.note)
    _send(terminal, name=spec.name, place=folder_of(spec).uri, files=[file, *_needed(spec)])


def send_known(terminal: Terminal, sweep: str, file: Path | None = None) -> None:
    """Sends what is done with a sweep that has begun, and its sweep file if that has changed."""
    from search import sweep_file
    from search.submission import check_shared

    check_shared(sweep, "the sweep")
    if file is None:
        # A path from the root that it has kept is one of the machine that it was begun on.
        files = [needed for needed in _needed(_kept(terminal, sweep)) if not needed.is_absolute()]
    else:
        spec = sweep_file.load(file)
        _check(spec, terminal.note)
        files = [file, *_needed(spec)]
    _send(terminal, name=sweep.partition("?")[0].rstrip("/").rpartition("/")[2], place=sweep, files=files)


def ask(terminal: Terminal, sweep: str) -> None:
    """Sends a short question about a sweep, shows the answer and leaves nothing behind; ends with its exit status."""
    from search.submission import check_shared, remove

    check_shared(sweep, "the sweep")
    job = _start(terminal, str(click.get_current_context().command.name))
    try:
        _follow(terminal, job)
    finally:
        remove(job)


def _send(terminal: Terminal, *, name: str, place: str, files: Sequence[Path]) -> None:
    """Sends the command that was typed, with the current folder, and follows it; ends with its exit status."""
    from search.connection import token
    from search.parcel import from_here, gather

    context = click.get_current_context()
    parcel = gather(Path.cwd(), asked_for=[from_here(file) for file in files], secrets=[token().encode()])
    for path, why in parcel.left_out.items():
        terminal.note(f"left out: {path}, {why}")
    if parcel.untracked:
        terminal.note(f"left out, because git does not track them: {several(parcel.untracked, 5)}")
    job = _start(terminal, name, parcel)
    if not context.params["follow"]:
        terminal.out(_coming_back(job, place))
        return
    terminal.note(f"{name} runs on the cluster as job {job.name}; Ctrl-C ends the looking on alone")
    try:
        _follow(terminal, job)
    except KeyboardInterrupt:
        terminal.note("\n" + _coming_back(job, place))
        context.exit(STOPPED)


def _start(terminal: Terminal, name: str, parcel: "Parcel | None" = None) -> "Job":
    """Sends the command that was typed, to the address that was typed with it."""
    from search.submission import send

    server = click.get_current_context().params["address"]
    return send(_again(), server=server, name=name, parcel=parcel, width=terminal.width, say=terminal.note)


def _follow(terminal: Terminal, job: "Job") -> None:
    """Shows what a job prints, and ends with its exit status."""
    from search.submission import follow

    context = click.get_current_context()
    as_json = context.params.get("as_json", False)
    answer = _Answer(terminal.note if as_json else terminal.out)
    outcome = follow(job, show=answer.take, say=terminal.note)
    if outcome.why:
        terminal.note(f"Error: {outcome.why}")
    if as_json and answer.document is not None:
        terminal.json(answer.document)
    context.exit(outcome.status)


def _needed(spec: "SweepSpec | None") -> list[Path]:
    """Returns what of the current folder a sweep cannot do without, tracked by git or not: its task and its script.

    What the sweep file names by a path from the root lies on the cluster's machines, or is found missing there.
    """
    from search.notification import script

    if spec is None:
        return []
    module, hook = spec.task.rpartition(":")[0], script(spec)
    if module.endswith(".py"):
        files = [] if Path(module).expanduser().is_absolute() else [Path(spec.folder, module)]
    else:
        path = Path(*module.split("."))
        files = [file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()]
    if hook is not None and not Path(spec.notify.command[0]).is_absolute():
        files.append(hook)
    return files


def _kept(terminal: Terminal, sweep: str) -> "SweepSpec | None":
    """Returns what a sweep was last asked to do, None where this machine cannot read that."""
    from search.folders import read_spec

    # Google's library would try for a quarter of an hour.
    place = f"{sweep}?retry_limit_seconds=10" if sweep.startswith("gs://") and "?" not in sweep else sweep
    terminal.status(f"reads what {sweep} needs")
    try:
        return read_spec(Storage(place))
    except (ResultsError, SearchError, OSError) as error:
        terminal.note(
            f"{sweep} cannot be read from here ({str(error).splitlines()[0]}), so nobody knows here which files its "
            "task and [notify] need: in a repository only what git tracks travels; `search resume --file` sends them"
        )
        return None


def _check(spec: "SweepSpec", say: Callable[[str], None]) -> None:
    """Finds mistakes here that would otherwise be found there, as far as this machine can."""
    from search.preparation import prepare

    try:
        prepare(spec)
    except TaskError as error:
        if not isinstance(error.__cause__, ModuleNotFoundError):
            raise
        say(f"{error}; so the cluster alone can check what the file says of the task")


def _coming_back(job: "Job", place: str) -> str:
    quoted = shlex.quote(place)
    how = "" if "://" in place else f" --address {job.server}"
    return "\n".join(
        [
            f"job {job.name} goes on, whatever happens to this machine. To come back:",
            f"  {job.logs_command}",
            f"  search status {quoted}{how} --watch",
            f"  search stop {quoted}{how}",
        ]
    )


def _given(name: str) -> bool:
    source = click.get_current_context().get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _again() -> list[str]:
    """Returns the command line that was typed as it is meant on the cluster.

    Raises:
        StorageError: an address in it holds a key, which everybody on the cluster could read.
    """
    context = click.get_current_context()
    words = ["search", str(context.command.name)]
    options = []
    for parameter in context.command.params:
        value = context.params[str(parameter.name)]
        if isinstance(parameter, click.Argument):
            words.append(_relative(value))
        elif parameter.name == "address":
            if "follow" in context.params:
                options += ["--address", "auto"]
        elif parameter.name != "follow" and _given(str(parameter.name)):
            options += _option(parameter, value)
    for word in filter(lambda word: "://" in word, words + options):
        Storage(word)
    return words + options


def _option(parameter: click.Parameter, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [parameter.opts[0] if value else parameter.secondary_opts[0]]
    values = value if isinstance(value, tuple) else (value,)  # several, where it was given several times
    return [word for each in values for word in (parameter.opts[0], _relative(each))]


def _relative(value: Any) -> str:
    from search.parcel import from_here

    return from_here(value) if isinstance(value, Path) else str(value)


class _Answer:
    """Shows lines, but for what Ray says before the command begins; keeps the JSON document that they end with."""

    def __init__(self, show: Callable[[str], None]):
        self._show = show
        self._has_begun = False
        self._lines: list[str] = []

    def take(self, line: str) -> None:
        if not self._has_begun and (" job_manager.py:" in line or line.startswith("Running entrypoint for job ")):
            self._has_begun = line.startswith("Running")
            return
        if line == "{":
            self._lines = [line]
        elif self._lines:
            self._lines.append(line)
        self._show(line)

    @property
    def document(self) -> Any:
        try:
            return json.JSONDecoder().raw_decode("\n".join(self._lines))[0]
        except ValueError:
            return None
