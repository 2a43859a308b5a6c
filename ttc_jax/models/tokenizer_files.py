"""What a model folder says of its tokenizer: the tokenizer itself, and tokens that end a text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ttc_jax.errors import UserError
from ttc_jax.models import hub

FILES = ("tokenizer*", "vocab.json", "spiece.model")  # of which a tokenizer has at least one
_TEMPLATE = "chat_template.json"


def read_folder(folder: Path) -> Any:
    """The folder's tokenizer, a `transformers.PreTrainedTokenizerFast`. No code in it is run.

    Raises:
      UserError: there is none, or it cannot be read.
    """
    if not any(file for pattern in FILES for file in folder.glob(pattern)):
        raise UserError(f"{folder}: no tokenizer; expected tokenizer.json")
    package = hub.transformers()
    try:
        tokenizer = package.AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
    # Whatever it raises, the files are at fault. A panic of its Rust code is no Exception.
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        if not (folder / "tokenizer.json").is_file():  # what it says then is about other formats
            reason = f"there is no tokenizer.json ({reason})"
        raise UserError(
            f"{folder}: its tokenizer cannot be read: {reason}; mend it, or give the path of "
            "another tokenizer by generator.tokenizer"
        ) from error
    if not isinstance(tokenizer, package.PreTrainedTokenizerFast):
        raise UserError(
            f"{folder}: its tokenizer is a {type(tokenizer).__name__}, which is not supported; "
            "give the path of another by generator.tokenizer, of a folder with tokenizer.json"
        )
    if tokenizer.chat_template is None and (folder / _TEMPLATE).is_file():
        # Where processors of images and text had theirs. transformers reads it for them alone.
        tokenizer.chat_template = hub.read_json(folder / _TEMPLATE).get("chat_template")
    return tokenizer


def end_tokens(folder: Path, vocab_size: int) -> list[int]:
    """The tokens that end a generation, as transformers finds them.

    They are those of generation_config.json; where that names none, those of config.json.

    Raises:
      UserError: something else than ids of the V tokens; names file and field.
    """
    for name in ("generation_config.json", "config.json"):
        if not (folder / name).is_file():
            continue
        fields = hub.read_json(folder / name)
        found = fields.get("eos_token_id")
        if found is None and isinstance(fields.get("text_config"), dict):
            found = fields["text_config"].get("eos_token_id")
        if found is None:
            continue
        ends = found if isinstance(found, list) else [found]
        for end in ends:
            if not isinstance(end, int) or isinstance(end, bool) or not 0 <= end < vocab_size:
                raise UserError(
                    f"{folder / name}: eos_token_id holds {end!r}; it must be a token id from 0 to "
                    f"{vocab_size - 1}, a list of them, or null"
                )
        return ends
    return []
