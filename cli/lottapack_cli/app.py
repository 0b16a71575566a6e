"""The typer app, and main(), the only place where the command line catches errors."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any, Final, cast

import typer

from lottapack.errors import LottapackError, OutputError
from lottapack.extras import without_torch
from lottapack_cli import errors
from lottapack_cli.options import Command
from lottapack_cli.render import Output, discard

SUMMARIES: Final = {
    "pack": "Pack a trained checkpoint into one small file.",
    "inspect": "Show a pack's architecture, seed and layers.",
    "verify": "Check hashes, rebuilt weights and architecture.",
    "sign": "Check a pack and sign it.",
    "export": "Export full weights, or files that other tools open.",
    "report": "Compare a pack's size with full checkpoints.",
    "run": "Generate tokens with a packed model, or compute its output.",
    "push": "Verify a pack and send it to a registry.",
    "pull": "Download a pack into the cache and verify it.",
    "list": "List the repositories of an owner that contain packs.",
    "log": "Show what was pushed to a repository.",
    "bench": "Measure how fast this machine generates weights.",
    "study": "Find the rank that a task needs.",
    "demo": "Train, pack, push, pull and rebuild a model.",
    "serve": "Serve a folder as a registry for Hub clients.",
}
"""The commands in the order of the help. Each is a module of ``commands``."""


class _Commands(Mapping[str, Any]):
    """The commands by name. A command's module is imported when it is used, since a process uses one of them."""

    def __init__(self) -> None:
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._built:
            if name not in SUMMARIES:
                raise KeyError(name)
            self._built[name] = _built(name)
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(SUMMARIES)

    def __len__(self) -> int:
        return len(SUMMARIES)


def _built(name: str) -> Any:
    module = import_module(f"lottapack_cli.commands.{name}")
    group = getattr(module, "app", None)
    if group is None:
        group = typer.Typer(add_completion=False, rich_markup_mode=None)
        group.command(cls=Command, epilog=module.EXAMPLES)(module.command)
    command = typer.main.get_command(group)
    command.name = name
    return command


class _Group(typer.core.TyperGroup):
    """The root, which lists its commands without importing them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = cast(Any, _Commands())

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - typer passes it
        """Write the summaries."""
        with formatter.section("Commands"):
            formatter.write_dl([*SUMMARIES.items()])


# Importing rich for the help takes as long as all other imports together.
app = typer.Typer(
    cls=_Group,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

# Newer versions of typer contain a copy of click, older ones import it. This finds the UsageError of both.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def _show_version(wanted: bool) -> None:
    if wanted:
        from lottapack import __version__

        typer.echo(f"lottapack {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Neural networks with a random, frozen backbone as one small file, rebuilt bit for bit on any device."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(errors.WRONG_INPUT)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 done, 1 a check failed, 2 wrong usage or input, 3 a registry or the network failed, 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    output = Output(json="--json" in arguments)
    try:
        code = _run(arguments)
    except LottapackError as fault:
        options = errors.options_of(typer.main.get_command(app), arguments)
        output.error(errors.record(fault, options), errors.in_options(str(fault), options))
        return errors.exit_code(fault)
    except _UsageError as fault:
        message, hint = _usage(fault)
        output.error(errors.usage_record(message, hint), f"{message}\n{hint}")
        return errors.WRONG_INPUT
    except (KeyboardInterrupt, typer.Abort):
        code = errors.INTERRUPTED
    except OSError as fault:  # such as one raised while typer prints its help
        if not isinstance(fault, BrokenPipeError):
            where = f"{fault.filename}: " if fault.filename else ""
            message = f"{where}the system refused: {fault.strerror or str(fault) or type(fault).__name__}"
            output.error(errors.record(OutputError(message), {}), message)
        discard(sys.stdout)
        return errors.WRONG_INPUT
    if code == errors.INTERRUPTED:
        output.error({"kind": "Interrupted", "message": "interrupted", "hint": "", "problems": []}, "interrupted")
    return code if isinstance(code, int) else errors.DONE


def _run(arguments: Sequence[str]) -> object:
    try:
        return app(args=arguments, prog_name="lottapack", standalone_mode=False)
    except ModuleNotFoundError as fault:
        raise without_torch(fault, "this command") from fault


def _usage(fault: Exception) -> tuple[str, str]:
    context = getattr(fault, "ctx", None)
    command = context.command_path if context else "lottapack"
    # Options that exclude one another are valid by themselves, so no single one is named as invalid.
    several = isinstance(fault, typer.BadParameter) and fault.param is None and fault.param_hint is None
    message: str = fault.message if several else fault.format_message()  # type: ignore[attr-defined]
    return message, f"Try: {command} --help"
