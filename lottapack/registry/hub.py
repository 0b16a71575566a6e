"""The Hugging Face Hub, or any server that speaks its protocol: the only modules that import huggingface_hub."""

from lottapack.registry import hub_files
from lottapack.registry.hub_errors import translated
from lottapack.registry.hub_pull import pull
from lottapack.registry.hub_push import push
from lottapack.registry.records import Listed, LogEntry
from lottapack.registry.references import PACK_END, HubReference, Owner

__all__ = ["list_packs", "log", "pull", "push"]


def list_packs(owner: Owner) -> list[Listed]:
    """See ``lottapack.registry.list_packs``."""
    with translated(owner.name):
        models = hub_files.client().list_models(author=owner.name, full=True)
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
        api = hub_files.client()
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
