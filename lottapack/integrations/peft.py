"""PEFT's ``save_pretrained`` puts the pack of the base beside an adapter, where lottapack drew the base.

PEFT has no place to register this, so its method is wrapped. The folder ``base`` makes an adapter whole: without it,
nothing in the files says what the adapter was trained on.
"""

from functools import wraps
from pathlib import Path
from typing import Any

from peft.peft_model import PeftModel

from lottapack.packing.bases import recall, write_base


def _with_base(save: Any) -> Any:
    @wraps(save)
    def save_pretrained(self: Any, save_directory: Any, *args: Any, **options: Any) -> Any:
        result = save(self, save_directory, *args, **options)
        base = recall(self.get_base_model())
        if base is not None and options.get("is_main_process", True):
            write_base(base, Path(save_directory))
        return result

    return save_pretrained


PeftModel.save_pretrained = _with_base(PeftModel.save_pretrained)
