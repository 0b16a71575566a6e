"""``lottapack serve``: the registry's server, and ``check``, ``backup``, ``restore`` and ``token`` for its folder."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lottapack_cli.commands import token
from lottapack_cli.errors import CHECK_FAILED
from lottapack_cli.options import Command, Json, Quiet, Root, Verbose, examples, root_of
from lottapack_cli.progress import Bar
from lottapack_cli.render import Output

if TYPE_CHECKING:
    from lottapack_serve.backup import Copied
    from lottapack_serve.tokens import Token
    from lottapack_serve.traffic import Served

EXAMPLES = examples(
    "lottapack serve --root ./registry --port 8780",
    "lottapack serve token add alice --write --root ./registry",
    "lottapack serve --root ./registry --host 0.0.0.0 --no-anonymous-read",
    "lottapack serve check --root ./registry",
    "lottapack serve backup ./backup --root ./registry",
)
CHECK_EXAMPLES = examples("lottapack serve check --root ./registry")
BACKUP_EXAMPLES = examples("lottapack serve backup /mnt/backup --root ./registry")
RESTORE_EXAMPLES = examples("lottapack serve restore /mnt/backup --root ./registry")

app = typer.Typer(invoke_without_command=True, add_completion=False, rich_markup_mode=None)
app.add_typer(token.app, name="token", help="Manage who may read and who may write.")


@app.callback(epilog=EXAMPLES)
def command(
    context: typer.Context,
    root: Root = None,
    host: Annotated[str, typer.Option(metavar="HOST", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="The port; 0 selects a free one.")] = 8780,
    anonymous_read: Annotated[bool, typer.Option(help="Allow reading public repositories without a token.")] = True,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A host name that requests may use for this server; can be repeated."),
    ] = None,
    max_file_bytes: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="The largest file to accept; by default 50 GB.")
    ] = None,
    max_commit_bytes: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="The largest commit to accept; by default 100 GB.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Serve a folder as a registry for Hub clients.

    Set HF_ENDPOINT to the address that it prints, and every client of the Hugging Face Hub works with it.

    Without tokens, every program on this machine may read and write, and the server listens only on this machine. With
    the first token, writing starts to need a token with that right.
    """
    context.obj = root
    if context.invoked_subcommand:
        _refuse_before(context, context.invoked_subcommand)
        return
    sink, folder = Output(json=json, quiet=quiet, verbose=verbose), root_of(context, None)
    from lottapack_serve import Limits, run, tokens

    limits = Limits()
    limits = Limits(max_file_bytes or limits.file_bytes, max_commit_bytes or limits.commit_bytes)

    def ready(url: str) -> None:
        known = tokens.listed(folder)
        record = {"url": url, "root": folder, "anonymous_read": anonymous_read, "tokens": len(known)}
        sink.result(record, lambda: _greeting(url, folder, known, anonymous_read))

    def log(served: "Served") -> None:
        if sink.human:
            sink.text(_line(served))

    hosts = allow_host or []
    with suppress(KeyboardInterrupt):  # Ctrl-C stops the server
        run(folder, host, port, anonymous_read=anonymous_read, hosts=hosts, limits=limits, log=log, ready=ready)
    sink.show("stopped")


def _refuse_before(context: typer.Context, command: str) -> None:
    """Refuse the server's options before the name of a command, which would not see them."""
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if parameter.name != "root" and source is not None and source.name == "COMMANDLINE":
            option = max(parameter.opts, key=len)
            raise typer.BadParameter(
                f"{option} is an option of the server: after `{command}`, name those of that command"
            )


def _greeting(url: str, root: Path, known: "list[Token]", anonymous_read: bool) -> list[str]:
    if known:
        writers = ", ".join(token.name for token in known if token.rights == "write")
        reading = "reading needs none" if anonymous_read else "reading needs one too"
        rules = f"{len(known)} token{'s'[: len(known) > 1]}; {reading}; who may write: {writers or 'nobody'}"
    else:
        rules = "no tokens: every program on this machine may read and write"
    return [f"serving {root} at {url}", rules, f"use it with: export HF_ENDPOINT={url}", "Ctrl-C stops it", ""]


def _line(served: "Served") -> str:
    from lottapack.limits import size_text
    from lottapack_cli.render import clean, duration

    size = max(served.received, served.sent)
    way = "in" if served.received > served.sent else "out"
    path = clean(served.path)[:200]
    return f"{served.method:<6} {path}  {served.status}  {size_text(size)} {way}  {duration(served.seconds)}"


@app.command("check", cls=Command, epilog=CHECK_EXAMPLES)
def check_command(
    context: typer.Context, root: Root = None, json: Json = False, quiet: Quiet = False, verbose: Verbose = 0
) -> None:
    """Hash every file of a registry again.

    The exit code is 1 if a file is missing or does not match its SHA-256. The registry may be served meanwhile.
    """
    sink = Output(json=json, quiet=quiet, verbose=verbose)
    with Bar("checking", show=sink.human) as bar:
        from lottapack_serve import check

        found = check(root_of(context, root), bar)
    from lottapack.limits import size_text

    lines = [f"{damage.fault}  {damage.sha256}  {use}" for damage in found.damaged for use in damage.files]
    total = (
        f"{found.blobs} blob{'s'[: found.blobs != 1]}, {size_text(found.size)}: {len(found.damaged) or 'none'} damaged"
    )
    sink.result(found, lambda: [*lines, total], ok=not found.damaged)
    if found.damaged:
        raise typer.Exit(CHECK_FAILED)


@app.command("backup", cls=Command, epilog=BACKUP_EXAMPLES)
def backup_command(
    context: typer.Context,
    target: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder, or one with older backups.")],
    root: Root = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Copy a registry, also while it is served.

    Every file of the copy is hashed. A later backup to the same folder copies only new files, and an interrupted one
    continues. Until it is complete, the folder contains the previous backup.
    """
    sink = Output(json=json, quiet=quiet, verbose=verbose)
    with Bar("copying", show=sink.human) as bar:
        from lottapack_serve import backup

        done = backup(root_of(context, root), target, bar)
    sink.result(done, lambda: [_copied_line(done)])


@app.command("restore", cls=Command, epilog=RESTORE_EXAMPLES)
def restore_command(
    context: typer.Context,
    copy: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the backup.")],
    root: Root = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Restore a backup to a new registry.

    The registry is a new folder. Every file is hashed. The backup is kept.
    """
    sink = Output(json=json, quiet=quiet, verbose=verbose)
    with Bar("copying", show=sink.human) as bar:
        from lottapack_serve import restore

        done = restore(copy, root_of(context, root), bar)
    sink.result(done, lambda: [_copied_line(done)])


def _copied_line(done: "Copied") -> str:
    from lottapack.limits import size_text

    repositories = f"{done.repositories} repositor{'y' if done.repositories == 1 else 'ies'}"
    blobs = f"{done.blobs} blob{'s'[: done.blobs != 1]}"
    return f"{done.target}: {repositories}, {blobs}, {size_text(done.size)}, each hashed; {done.new} of them new"
