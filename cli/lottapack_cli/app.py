"""The typer app, and main(), the only place where the command line catches errors."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from lottapack.errors import LottapackError, OutputError
from lottapack.extras import without_torch
from lottapack_cli import errors
from lottapack_cli.commands import (
    bench,
    demo,
    export,
    inspect,
    log,
    pack,
    pull,
    push,
    report,
    run,
    serve,
    sign,
    study,
    verify,
)
from lottapack_cli.commands import list as list_
from lottapack_cli.render import Output, discard

# Importing rich for the help takes as long as all other imports together.
app = typer.Typer(
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

for module in (pack, inspect, verify, sign, export, report, run, push, pull, list_, log, bench, study, demo):
    app.command(module.__name__.rpartition(".")[2], epilog=module.EXAMPLES)(module.command)
app.add_typer(serve.app, name="serve")

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
        raise without_torch(fault, "This command") from fault


def _usage(fault: Exception) -> tuple[str, str]:
    context = getattr(fault, "ctx", None)
    command = context.command_path if context else "lottapack"
    # Options that exclude one another are valid by themselves, so no single one is named as invalid.
    several = isinstance(fault, typer.BadParameter) and fault.param is None and fault.param_hint is None
    message: str = fault.message if several else fault.format_message()  # type: ignore[attr-defined]
    return message, f"Try: {command} --help"
