"""The Hugging Face Hub, or any server that speaks its protocol: who has packs there, and what was pushed.

``hub_push`` and ``hub_pull`` do the rest; these are the only modules that import huggingface_hub.
"""

from huggingface_hub import HfApi

from lottapack.format.container import PACK_END
from lottapack.registry.hub_errors import translated
from lottapack.registry.hub_files import LIBRARY
from lottapack.registry.records import Listed, LogEntry
from lottapack.registry.references import HubReference, Owner


def list_packs(owner: Owner) -> list[Listed]:
    """See ``lottapack.registry.list_packs``."""
    with translated(owner.name):
        models = HfApi(library_name=LIBRARY).list_models(author=owner.name, full=True)
        return sorted(
            (
                Listed(model.id, model.last_modified.isoformat() if model.last_modified else None, model.private)
                for model in models
                if any(file.rfilename.endswith(PACK_END) for file in model.siblings or [])
            ),
            key=lambda listed: listed.reference,
        )


def log(source: HubReference) -> list[LogEntry]:
    """See ``lottapack.registry.log``."""
    with translated(str(source)):
        api = HfApi(library_name=LIBRARY)
        refs = api.list_repo_refs(source.repo)
        names: dict[str, list[str]] = {}
        for ref in [*refs.tags, *refs.branches]:
            names.setdefault(ref.target_commit, []).append(ref.name)
        return [
            LogEntry(
                revision=commit.commit_id,
                names=tuple(names.get(commit.commit_id, ())),
                when=commit.created_at.isoformat(),
                title=commit.title,
                authors=tuple(commit.authors),
            )
            for commit in api.list_repo_commits(source.repo, revision=source.revision)
        ]
