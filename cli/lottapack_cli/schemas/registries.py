"""The fields of commands that use registries, or serve one."""

from lottapack_cli.schemas.kinds import FILE, SHA256, SIZE, Schema, flag, items, or_null, record, text, whole

_TOKEN = {
    "name": text("The owner of the token."),
    "rights": text("What the token permits.", "read", "write"),
}

_COPIED = {
    "target": text("The folder of the copy."),
    "repositories": whole("Number of repositories in it."),
    "blobs": whole("Number of files in it, each hashed."),
    "size": whole("Their size in bytes."),
    "new": whole("Number of files that this run copied."),
}

COMMANDS: dict[str, tuple[dict[str, Schema], ...]] = {
    "push": (
        {
            "reference": text("The reference of the pushed pack."),
            "revision": or_null(text("The commit, or the manifest's digest; null if a dry run cannot know it.")),
            "sha256": SHA256,
            "size": SIZE,
            "sent": items("Files that were sent, since the registry did not have them.", FILE),
            "already": items("Files that the registry already had.", FILE),
            "created": flag("Whether the repository is new."),
            "dry_run": flag("Whether nothing was changed."),
            "url": text("The address of its page."),
            "removed": items("A signature in the registry that belongs to another pack, and was removed."),
            "modelpack": or_null(text("The reference of the ModelPack manifest, if it was asked for.")),
        },
    ),
    "pull": (
        {
            "path": text("The pack, in the cache or at --output."),
            "reference": text("The requested reference."),
            "revision": text("The commit or digest that it points to."),
            "sha256": SHA256,
            "size": SIZE,
            "received": whole("Bytes received over the network by this call; 0 if the pack was in the cache."),
            "exported": or_null(text("The file or folder that --export wrote.")),
        },
    ),
    "list": (
        {
            "owner": text("The owner of the packs."),
            "packs": items(
                "Each repository with a pack.",
                record(
                    "One repository.",
                    reference=text("The reference to pull."),
                    modified=or_null(text("When it changed, in ISO 8601, if the registry reports it.")),
                    private=or_null(flag("Whether it is private, if the registry reports it.")),
                ),
            ),
        },
    ),
    "log": (
        {
            "reference": text("The repository."),
            "entries": items(
                "Commits, newest first, or tagged images.",
                record(
                    "One commit or image.",
                    revision=text("The commit or digest."),
                    names=items("Tags and branches that point to it."),
                    when=or_null(text("When it was made, in ISO 8601, if the registry reports it.")),
                    title=text("The commit's title, or the pack's name."),
                    authors=items("Its authors."),
                ),
            ),
        },
    ),
    "serve": (
        {
            "url": text("Its address, for HF_ENDPOINT. The object is printed when the server is ready."),
            "root": text("The registry's folder."),
            "anonymous_read": flag("Whether reading public repositories needs no token."),
            "tokens": whole("Number of tokens."),
        },
    ),
    "serve check": (
        {
            "root": text("The registry's folder."),
            "blobs": whole("Number of files that were hashed."),
            "size": whole("Their size in bytes."),
            "damaged": items(
                "Files that are missing or changed.",
                record(
                    "One file.",
                    sha256=text("Its hash."),
                    size=SIZE,
                    fault=text("What is wrong.", "missing", "changed"),
                    files=items("Where it is used, as owner/name: path."),
                ),
            ),
        },
    ),
    "serve backup": (_COPIED,),
    "serve restore": (_COPIED,),
    "serve token add": ({**_TOKEN, "token": text("The token, which is shown only once.")},),
    "serve token list": (
        {
            "tokens": items(
                "Each token.",
                record("One token.", **_TOKEN, created=text("When it was created, in ISO 8601 and UTC.")),
            )
        },
    ),
    "serve token remove": ({"name": text("The owner of the token."), "removed": flag("True.")},),
}
