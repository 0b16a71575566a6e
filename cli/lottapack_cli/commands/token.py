"""``lottapack serve token``: add, list, remove."""

from typing import Annotated

import typer

from lottapack_cli.options import Command, Json, Quiet, Root, Verbose, examples, root_of
from lottapack_cli.render import Output, table, when

ADD_EXAMPLES = examples(
    "lottapack serve token add alice --write --root ./registry",
    "export HF_TOKEN=$(lottapack serve token add ci --root ./registry --quiet)",
)
LIST_EXAMPLES = examples("lottapack serve token list --root ./registry")
REMOVE_EXAMPLES = examples("lottapack serve token remove alice --root ./registry")

app = typer.Typer(rich_markup_mode=None)

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The owner of the token, and the author of commits made with it.")
]


@app.command("add", cls=Command, epilog=ADD_EXAMPLES)
def add_command(
    context: typer.Context,
    name: Name,
    write: Annotated[bool, typer.Option("--write", help="Permit writing as well as reading.")] = False,
    root: Root = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Create a token and print it.

    It is shown only once, since only its hash is stored. It is valid immediately, also while the registry is served.
    """
    sink = Output(json=json, quiet=quiet, verbose=verbose)
    from lottapack_serve import tokens

    rights = "write" if write else "read"
    text = tokens.add(root_of(context, root), name, rights)
    if quiet and not json:
        sink.text(text)
        return
    hint = f"clients use it with: export HF_TOKEN={text}"
    sink.result({"name": name, "rights": rights, "token": text}, lambda: [f"{name} may {rights}", hint])


@app.command("list", cls=Command, epilog=LIST_EXAMPLES)
def list_command(
    context: typer.Context, root: Root = None, json: Json = False, quiet: Quiet = False, verbose: Verbose = 0
) -> None:
    """List the tokens and their rights."""
    sink = Output(json=json, quiet=quiet, verbose=verbose)
    from lottapack_serve import tokens

    found = tokens.listed(root_of(context, root))
    rows = [(token.name, token.rights, when(token.created)) for token in found]
    sink.result({"tokens": found}, lambda: [table(("name", "rights", "created"), rows) if rows else "no tokens"])


@app.command("remove", cls=Command, epilog=REMOVE_EXAMPLES)
def remove_command(
    context: typer.Context,
    name: Name,
    root: Root = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Revoke a token.

    It becomes invalid immediately, also while the registry is served.
    """
    sink = Output(json=json, quiet=quiet, verbose=verbose)
    from lottapack_serve import tokens

    folder = root_of(context, root)
    tokens.remove(folder, name)
    sink.result({"name": name, "removed": True}, lambda: [f"removed the token of {name}"])
