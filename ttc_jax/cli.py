"""The command `ttc <job> --config=NAME[:variant] --workdir=DIR [--config.field=value]`.

Help and mistakes in the command line answer at once: jobs and JAX are imported only to run one. A
mistake the user can mend ends in one line on stderr and exit code 2, Ctrl-C in one with exit code
130, SIGTERM in one with 143; anything else is a bug and keeps its traceback.
"""

import ast
import difflib
import functools
import importlib
import os
import pkgutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import ttc_jax
from ttc_jax import config_files, files, logs
from ttc_jax.errors import UserError
from ttc_jax.hosts import hosts
from ttc_jax.signals import Interrupted, Signals
from ttc_jax.text import check_name, check_text

if TYPE_CHECKING:
    from ml_collections import ConfigDict

_JOBS = Path(__file__).parent / "jobs"
_USAGE = "ttc {job} --config=NAME[:VARIANT] {workdir} [--config.field=value ...]"
_USAGE_ALONE = "ttc {job} {workdir}"  # of a job that takes no config
_HOSTS = {  # of many: flag -> default
    "hosts": "1",
    "host": "0",
    "coordinator": "",
    "hosts_timeout": str(hosts.TIMEOUT),
}
_FLAGS = ("--config", "--workdir", "--help", *(f"--{name}" for name in _HOSTS))
_AGAIN = "the same command again continues where this one stopped"


class _Job(NamedTuple):
    """What is known of a job without importing it.

    Attributes:
        text: its docstring, which is its help.
        arguments: those that `main` takes behind the workdir.
        flags: those that it takes by name.
        needs_workdir: whether `main` cannot do without one.
        takes: the jobs whose configs it takes: its own where it says no others; (): it takes none.
    """

    text: str
    arguments: tuple[str, ...]
    flags: tuple[str, ...]
    needs_workdir: bool
    takes: tuple[str, ...]

    def usage(self, name: str) -> str:
        """How it is called."""
        words = [name, *(f"[{argument.upper()}]" for argument in self.arguments)]
        words += [f"[--{flag}=…]" for flag in self.flags]
        workdir = "--workdir=DIR" if self.needs_workdir else "[--workdir=DIR]"
        return (_USAGE if self.takes else _USAGE_ALONE).format(job=" ".join(words), workdir=workdir)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a job and returns the exit code.

    Args:
        argv: the arguments after the command's name; those of the process by default.
    """
    signals = Signals()
    if argv is None and not os.environ.get("TTC_DEBUG"):
        sys.unraisablehook = logs.unless_closed(sys.unraisablehook)
    try:
        with signals.handled(to_the_end=argv is None):
            return _run(_checked(sys.argv[1:] if argv is None else argv))
    except (Exception, KeyboardInterrupt) as error:
        # Whatever follows a signal is its consequence: libraries may wrap the exception.
        reason = signals.received or error
        if isinstance(reason, KeyboardInterrupt):
            code = reason.code if isinstance(reason, Interrupted) else 130
            return _fail(f"{str(reason) or 'interrupted'}; {_AGAIN}", code)
        if isinstance(error, UserError):
            return _fail(str(error), 2)
        if files.disk_is_full(error):
            return _fail(f"the disk is full ({error}): make room, then {_AGAIN}", 2)
        if isinstance(error, OSError) and error.filename:
            return _fail(f"{str(error.filename)[:300]}: {(error.strerror or '').lower()}", 2)
        raise


def _checked(argv: Sequence[str]) -> list[str]:
    """The arguments, all of which are text."""
    for number, argument in enumerate(argv, 1):
        check_text(argument, f"argument {number}, {argument[:60]!a},")
        if "\0" in argument:
            raise UserError(f"argument {number}, {argument[:60]!a}, holds a zero byte")
    return list(argv)


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("--help", "-h", "help"):
        return _print(_help())
    if argv[0] == "--version":
        return _print(f"ttc_jax {ttc_jax.__version__}")
    job, rest = argv[0], argv[1:]
    about = _known(job)
    # What stands behind "--" is no flag, whatever it looks like.
    end = rest.index("--") if "--" in rest else len(rest)
    rest, behind = rest[:end], rest[end + 1 :]
    wants_help = any(flag in rest for flag in ("--help", "-h"))
    rest = [flag for flag in rest if flag not in ("--help", "-h")]
    values, own, overrides = _flags(rest, about.flags)
    if wants_help:
        return _print(_job_help(job, values.config, overrides))
    settings, arguments = _settings(job, about, values, overrides, behind)
    _start(job, values, settings, arguments, own)
    return 0


def _known(job: str) -> _Job:
    """Returns what is known of a job; UserError for one that there is not."""
    jobs = _jobs()
    if job.startswith("-"):
        raise UserError(f"the job comes first: ttc JOB {job} ...; jobs: {', '.join(jobs)}")
    if job not in jobs:
        close = difflib.get_close_matches(job, jobs, n=1)
        hint = f"did you mean {close[0]}?" if close else f"jobs: {', '.join(jobs)}"
        raise UserError(f"unknown job {job!r}; {hint}")
    return jobs[job]


def _settings(
    job: str, about: _Job, values: Any, overrides: list[str], behind: list[str]
) -> "tuple[ConfigDict, list[str]]":
    """Returns a job's config and arguments; UserError for what is missing, unknown or wrong.

    Args:
        values: of our flags, by name.
        overrides: config fields and arguments.
        behind: arguments behind "--".
    """
    spec, workdir = values.config, values.workdir
    if not spec and about.takes:
        raise UserError(f"--config is missing: {about.usage(job)}")
    if not about.takes and (given := [f"--config={spec}"] * bool(spec) or overrides):
        raise UserError(f"{given[0]}: ttc {job} takes no config: {about.usage(job)}")
    if not workdir and about.needs_workdir:
        raise UserError("--workdir is missing: the folder for results, as in --workdir=runs/NAME")

    from ttc_jax import config
    from ttc_jax.experiments.fields import check_fields

    files.refuse_url(workdir, "--workdir")
    check_name(spec, f"--config={spec}")
    if not 0 < values.hosts_timeout < float("inf"):
        raise UserError(f"--hosts_timeout={values.hosts_timeout}: must be a finite number above 0")
    parsed = config.parse_config(spec, overrides) if spec else (config.ConfigDict(), [])
    settings, arguments = parsed[0], parsed[1] + behind
    check_fields(settings)
    if unexpected := arguments[len(about.arguments) :]:
        hint = "put quotes around one of several words; " if about.arguments else ""
        raise UserError(
            f"unexpected argument {unexpected[0]!r}: {hint}a field is set by --config.field=value"
        )
    check_name(workdir, f"--workdir={workdir}")
    if (declared := settings.get("job", "")) and declared not in about.takes:
        raise UserError(
            f"--config={spec}: a config of ttc {declared}, not of ttc {job}; ttc {job} --help "
            "lists those that it takes"
        )
    return settings, arguments


def _start(
    job: str, values: Any, settings: "ConfigDict", arguments: list[str], own: dict[str, str]
) -> None:
    """Runs a job, on many hosts together with them.

    Args:
        values: of our flags, by name.
        own: values of the job's flags.
    """
    from ttc_jax import config

    spec, workdir = values.config, values.workdir
    logs.set_up()
    config.enable_compilation_cache()
    folder = Path(workdir) if workdir else None
    here = hosts.place(values.hosts, values.host, values.coordinator, values.hosts_timeout)
    facts: dict[str, Any] = {}
    if here is not None:
        from ttc_jax.results.summary import versions

        shown = {f"--config.{name}": value for name, value in config.fields(settings).items()}
        facts = {"the job": job, "its arguments": arguments, **shown, **versions()}
    jobs_run = {job, *(stage.job for stage in settings.get("stage", {}).values())}
    with hosts.together(
        here, facts, folder, timeout=values.hosts_timeout, talking="train" in jobs_run
    ):
        try:
            importlib.import_module(f"ttc_jax.jobs.{job}").main(settings, folder, *arguments, **own)
        except (AttributeError, KeyError) as error:
            if not config.is_missing_field(error):
                raise
            raise UserError(
                f"--config={spec}: has no field {str(error)[:100]}, which ttc {job} reads; give a "
                f"config of that job, see ttc {job} --help"
            ) from error


def _flags(argv: list[str], own: Sequence[str]) -> tuple[Any, dict[str, str], list[str]]:
    """The values of our flags by name, of those of the job's `own` that are given, and the rest.

    The rest are config fields and arguments.
    """
    from absl import flags

    values = flags.FlagValues()
    values.set_gnu_getopt(True)
    for name in ("config", "workdir"):
        flags.DEFINE_string(name, "", "", flag_values=values)
    for name, default in _HOSTS.items():
        define = flags.DEFINE_float if name == "hosts_timeout" else flags.DEFINE_string
        value: Any = os.environ.get(f"TTC_{name.upper()}", default)
        define(name, value, "", flag_values=values)
    others = {name: flags.DEFINE_string(name, None, "", flag_values=values) for name in own}
    try:
        rest = values(["ttc", *argv], known_only=True)[1:]
    except flags.Error as error:
        raise UserError(str(error)) from error
    for flag in rest:
        name = flag.partition("=")[0]
        if name.startswith("-") and not name.lstrip("-").startswith(("config.", "noconfig.")):
            known = (*_FLAGS, *(f"--{flag}" for flag in own))
            close = difflib.get_close_matches(name, known, n=1)
            hint = (
                f"did you mean {close[0]}?" if close else "a field is set by --config.field=value"
            )
            raise UserError(f"unknown flag {name}; {hint}")
    given = {name: flag.value for name, flag in others.items() if flag.value is not None}
    return values, given, rest


def _jobs() -> dict[str, _Job]:
    """The jobs, read without importing them."""
    names = (module.name for module in pkgutil.iter_modules([str(_JOBS)]))
    return {name: _job(_JOBS / f"{name}.py") for name in names if not name.startswith("_")}


@functools.cache
def _job(path: Path) -> _Job:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    takes = [
        ast.literal_eval(x.value)
        for x in tree.body
        if isinstance(x, ast.Assign) and ast.unparse(x.targets[0]) == "TAKES"
    ]
    [function] = (x for x in tree.body if isinstance(x, ast.FunctionDef) and x.name == "main")
    _, _, *others = function.args.args
    return _Job(
        text=ast.get_docstring(tree) or "",
        arguments=tuple(other.arg for other in others),
        flags=tuple(flag.arg for flag in function.args.kwonlyargs),
        needs_workdir=len(function.args.defaults) <= len(others),
        takes=takes[0] if takes else (path.stem,),
    )


def _help() -> str:
    jobs = [f"  {name:<9} {job.text.partition(chr(10))[0]}" for name, job in _jobs().items()]
    return "\n".join(
        [
            "Spends compute at test time to get better answers from a language model.",
            "",
            "Usage",
            f"  {_USAGE.format(job='JOB', workdir='--workdir=DIR')}",
            "  ttc JOB --help                     what the job does",
            "  ttc JOB --config=NAME --help       the same, and every field of the config",
            "  ttc --version",
            "",
            "Jobs",
            *jobs,
            "",
            "Configs",
            "  a shipped one by its name, or the path of a file of your own",
            *config_files.listing(),
            "",
            "Examples",
            "  ttc run --config=countdown --workdir=runs/quickstart",
            "  ttc run --config=gsm8k:smollm2 --workdir=runs/gsm8k --config.seed=1",
            "",
            "Many hosts, each with the same command and a workdir on a disk that all of them share",
            "  --hosts=auto              on a TPU pod, or in a job of Slurm or Open MPI",
            "  --hosts=COUNT --host=INDEX --coordinator=ADDRESS:PORT",
            "                            elsewhere: from 0, and where the first host is",
            "  --hosts_timeout=SECONDS   how long they may take to come up",
            "  or TTC_HOSTS, TTC_HOST, TTC_COORDINATOR and TTC_HOSTS_TIMEOUT in the environment.",
            "",
            "A command that was stopped continues when it is given again. An argument that comes",
            "twice counts as given last.",
        ]
    )


def _job_help(job: str, spec: str, overrides: list[str]) -> str:
    about = _jobs()[job]
    lines = [about.text, "", "Usage", f"  {about.usage(job)}", ""]
    if not spec:
        more = f"ttc {job} --config=NAME --help shows every field of a config."
        listed = ["Configs", *config_files.listing(about.takes), "", more] if about.takes else []
        return "\n".join(lines + listed)

    from ttc_jax import config
    from ttc_jax.experiments.fields import field_of

    settings, _ = config.parse_config(spec, overrides)
    path, _ = config_files.find(spec)
    lines += [spec.partition(":")[0], textwrap.indent(config_files.docstring(path), "  "), ""]
    found = config_files.variants_of(path).items()
    variants = [f"  :{name}  {variant}" for name, variant in found]
    lines += ["Variants", *variants, ""] if variants else []
    lines += ["Fields and their values, which may be pasted into a command"]
    for name, value in config.fields(settings).items():
        flag, known = config.as_flag(name, value), field_of(name)
        lines.append(f"  {flag:<42}  # {known.help}" if known else f"  {flag}")
    return "\n".join(lines)


def _print(text: str) -> int:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # `ttc --help | head`: nor may Python's own flush at exit complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _fail(message: str, code: int) -> int:
    line = " ".join(message.split())
    # Names may hold what a terminal takes for commands.
    printable = "".join(x if x.isprintable() else ascii(x)[1:-1] for x in line)
    print(f"ttc: {printable}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
