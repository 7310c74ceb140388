"""What the commands share: errors without tracebacks, options from parameters, their results."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import click

from pipeline.errors import DataError, PipelineError
from pipeline.params import PARAMS_OF_SECTION
from pipeline.resolve import base_type, read_params
from pipeline.resolve import resolve as find_values
from pipeline.tasks import BUILT_IN, Task, find_task

F = TypeVar("F", bound=Callable[..., Any])

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class Failure(click.ClickException):
    """A named error: one message on standard error, exit code 1."""

    def show(self, file: Any = None) -> None:
        """Print the message."""
        text = f"Error: {self.format_message()}"
        plain = bool(os.environ.get("NO_COLOR"))  # https://no-color.org
        click.echo(text if plain else click.style(text, fg="red"), err=True, file=file)


class Command(click.Command):
    """A command that can be told to be quiet."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        quiet = click.Option(
            ["-q", "--quiet"],
            is_flag=True,
            expose_value=False,
            callback=_be_quiet,
            help="Nothing on standard error but errors and warnings of libraries.",
        )
        self.params.append(quiet)


QUIET = "pkd.quiet"


def _be_quiet(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.meta[QUIET] = value


def is_quiet() -> bool:
    """Whether this process is to say nothing: told so, or not the first one of a launcher."""
    context = click.get_current_context(silent=True)
    return not leads() or bool(context and context.meta.get(QUIET))


class Commands(click.Group):
    """A command group that turns the pipeline's errors into messages."""

    command_class = Command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a PipelineError, a file error or Ctrl-C ends it with exit code 1."""
        try:
            return super().invoke(ctx)
        except PipelineError as error:
            raise Failure(str(error)) from None
        except KeyboardInterrupt:
            raise Failure("interrupted; nothing unfinished was published.") from None
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            raise Failure(_describe_os_error(error)) from None


def _describe_os_error(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return (
            f"{where}the disk is full ({error.strerror}). Nothing unfinished was published; "
            "free some space and run the same command again."
        )
    return f"{where}{error.strerror or error}"


def commands(name: str, text: str) -> Callable[[F], Commands]:
    """Decorate the function that becomes the group of one console script."""

    def wrap(function: F) -> Commands:
        group = click.group(name=name, cls=Commands, context_settings=CONTEXT, help=text)(function)
        versioned = click.version_option(package_name="pkd", prog_name=name)(group)
        assert isinstance(versioned, Commands)
        return versioned

    return wrap


def with_params(section: str) -> Callable[[F], F]:
    """Add one option per parameter of a section; the function receives them all as `**flags`."""

    def wrap(function: F) -> F:
        kind = PARAMS_OF_SECTION[section]
        hints = get_type_hints(kind)
        for each in reversed(fields(kind)):
            function = _option_for(each, hints[each.name])(function)
        return function

    return wrap


def _option_for(each: Any, hint: Any) -> Callable[[F], F]:
    value_type, _ = base_type(hint)
    flag = each.name.replace("_", "-")
    default = "" if each.default is None else f" [default: {each.default}]"
    help_text = each.metadata["help"] + default
    if value_type is bool:
        return click.option(f"--{flag}/--no-{flag}", each.name, default=None, help=help_text)
    if each.metadata["many"]:
        return _list_option(each, help_text)
    if each.metadata["choices"]:
        choice = click.Choice(each.metadata["choices"])
        return click.option(f"--{flag}", each.name, type=choice, help=help_text)
    return click.option(
        f"--{flag}", each.name, type=value_type, help=help_text, shell_complete=_COMPLETE.get(flag)
    )


def _list_option(each: Any, help_text: str) -> Callable[[F], F]:
    """An option that is given again, or with commas, for several values."""
    choices = each.metadata["choices"]

    def joined(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> str | None:
        values = [value for text in given for value in text.split(",")]
        for value in values:
            if value not in choices:
                raise click.BadParameter(f"{value!r} is not one of {', '.join(choices)}.")
        return ",".join(values) or None

    return click.option(
        f"--{each.name.replace('_', '-')}",
        each.name,
        multiple=True,
        callback=joined,
        help=help_text,
        shell_complete=lambda *given: _beginning(given[2], choices),
    )


def _beginning(text: str, *names: Iterable[str] | None) -> list[str]:
    return sorted(name for each in names for name in each or () if name.startswith(text))


def _strategies(_: Any, __: Any, text: str) -> list[str]:
    from pipeline.layers import UNMATCHED
    from pipeline.strategies import AUTO, STRATEGIES

    return _beginning(text, UNMATCHED, STRATEGIES, [AUTO])


def _presets(_: Any, __: Any, text: str) -> list[str]:
    from pipeline.presets import preset_names

    return _beginning(text, preset_names())


_COMPLETE: dict[str, Callable[[Any, Any, str], list[str]]] = {
    "strategy": _strategies,
    "preset": _presets,
}


def resolve(section: str, flags: Mapping[str, Any], task: str | None) -> tuple[Any, dict[str, str]]:
    """Resolve parameters and show on standard error each that is not a default, with its source."""
    values, sources = find_values(section, flags, task=task)
    told = {name: source for name, source in sources.items() if source != "default"}
    rest = [f"{n}={getattr(values, n)}" for n, s in sources.items() if s == "default"]
    for name, source in told.items():
        note(f"  {name} = {getattr(values, name)}  ({source})")
    note(f"  defaults: {', '.join(rest)}")
    return values, sources


def task_named(name: str) -> Task:
    """The task of `--task`, built in or described in `params.yaml`."""
    return find_task(name, read_params().get("tasks") or {})


def prepared_data(task: str, folder: Path | None) -> Any:
    """The prepared data of a task; refuses data prepared with another description of it."""
    from pipeline.data import load_prepared

    named = task_named(task)
    prepared = load_prepared(folder or Path(f"data/raw/{task}"), task)
    if prepared.task != named:
        one, other = prepared.task.to_dict(), named.to_dict()
        field = next(key for key in one if one[key] != other[key])
        raise DataError(
            f"{prepared.folder}: prepared with {field} {one[field]}, params.yaml now says "
            f"{other[field]}; run `pkd-data prepare --task {task} --overwrite`."
        )
    return prepared


def leads() -> bool:
    """Whether this process speaks: under `torchrun` the first one alone."""
    return os.environ.get("RANK", "0") == "0"


def note(message: str) -> None:
    """Tell a person something, on standard error."""
    if not is_quiet():
        click.echo(message, err=True)


def emit(result: Mapping[str, Any], as_json: bool, text: str) -> None:
    """Print a command's result on standard output: text for people, JSON for machines."""
    if not leads():
        return
    click.echo(json.dumps(result, indent=2, sort_keys=True, default=str) if as_json else text)


cache_argument = click.argument("cache", metavar="CACHE")  # a path, or any fsspec URL
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace an output that came from other inputs."
)
resume_option = click.option(
    "--resume", is_flag=True, help="Go on from the checkpoint of the same run, if there is one."
)
task_option = click.option(
    "--task",
    required=True,
    help="A GLUE task (rte, mrpc, sst2, ...), demo, or your own.",
    shell_complete=lambda *given: _beginning(given[2], BUILT_IN, read_params().get("tasks")),
)


def path_option(flag: str, text: str, **more: Any) -> Callable[[F], F]:
    """An option that is a path and stays a Path."""
    return click.option(flag, type=click.Path(path_type=Path), help=text, **more)
