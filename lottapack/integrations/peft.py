"""Let PEFT's ``save_pretrained`` write the pack of the base beside an adapter if lottapack drew the base, and find it.

PEFT does not have a hook for this, so its methods are wrapped. The folder ``base`` completes an adapter: without
it, the files would not tell what the adapter was trained on. A configuration that is read names the base beside it,
wherever the folder was moved to.
"""

from functools import wraps
from pathlib import Path
from typing import Any

from peft.config import PeftConfigMixin
from peft.peft_model import PeftModel

from lottapack.folders.bases import FOLDER, holds_pack, of_the_moment, recall, write_base
from lottapack.integrations.peft_base import base_now, tell_what_is_left_out


def _with_base(save: Any) -> Any:
    @wraps(save)
    def save_pretrained(self: Any, save_directory: Any, *args: Any, **options: Any) -> Any:
        result = save(self, save_directory, *args, **options)
        model = self.get_base_model()
        base = recall(model)
        if base is not None and options.get("is_main_process", True):
            folder = Path(save_directory)
            tell_what_is_left_out(self, folder, options.get("selected_adapters"))
            write_base(of_the_moment(base_now(base, self), model), folder)
        return result

    return save_pretrained


def _naming_base(read: Any) -> Any:
    @wraps(read)
    def from_pretrained(cls: Any, path: Any, subfolder: Any = None, **options: Any) -> Any:
        config = read(cls, path, subfolder, **options)
        base = Path(path, subfolder or "", FOLDER)
        if holds_pack(base):
            config.base_model_name_or_path = str(base.resolve())
        return config

    wrapped: Any = from_pretrained
    return classmethod(wrapped)


PeftConfigMixin.from_pretrained = _naming_base(PeftConfigMixin.from_pretrained.__func__)
PeftModel.save_pretrained = _with_base(PeftModel.save_pretrained)
