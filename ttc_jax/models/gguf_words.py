"""How byte-level vocabularies cut a text into words before they merge, by llama.cpp's names.

The patterns are those of the models' own `tokenizer.json`, and of llama.cpp where it has the better
claim (`default`). A text is cut by each in turn: what a pattern matches is a piece, and so is what
lies between two matches.
"""

from __future__ import annotations

import dataclasses

from tokenizers import Regex, normalizers, pre_tokenizers


@dataclasses.dataclass(frozen=True)
class Words:
    """One way of cutting.

    `whole_words` says that a word which is a token stays one, whatever the merges make of it;
    `bos` whether a text begins with the first token where the file does not say; `compose` whether
    letters and their accents are first put together (NFC).
    """

    patterns: tuple[str, ...]
    whole_words: bool = False
    bos: bool = False
    compose: bool = False

    def pre_tokenizer(self) -> pre_tokenizers.PreTokenizer:
        """Cuts into words, and writes each byte as one printable character."""
        cuts = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in self.patterns]
        return pre_tokenizers.Sequence(
            [*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )

    def normalizer(self) -> normalizers.Normalizer | None:
        """What is done to a text before."""
        return normalizers.NFC() if self.compose else None


_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # of GPT-2
_MODERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CJK = r"[一-龥ࠀ-一가-퟿]+"

GPT2 = Words((_GPT2,))
DIGITS = Words((r"\p{N}", _GPT2))
LLAMA3 = Words((_MODERN % r"\p{N}{1,3}",), whole_words=True, bos=True)
SMAUG = Words((_MODERN % r"\p{N}{1,3}",))
SINGLE_DIGITS = Words((_MODERN % r"\p{N}",))
QWEN2 = dataclasses.replace(SINGLE_DIGITS, compose=True)
TEKKEN = Words((_TEKKEN,), whole_words=True, bos=True)
SEED_CODER = Words(
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    )
)
DEEPSEEK_LLM = Words(
    (
        r"[\r\n]",
        r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕ"
        r"ἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳ"
        r"Ꙁ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+",
        r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
        r"\s+$",
        _CJK,
        r"\p{N}+",
    )
)
DEEPSEEK_CODER = Words((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK, r"\p{N}"))
VIKING = Words((r" ?[^(\s|.,!?…。，、।۔،)]+", r"\p{N}"))
DEFAULT = Words((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"))

# By `tokenizer.ggml.pre`. Named are the tokenizers that occur with the supported architectures;
# Llama's is that of many families.
WORDS: dict[str, Words] = {
    "default": DEFAULT,
    **dict.fromkeys(
        ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"),
        LLAMA3,
    ),
    **dict.fromkeys(("smaug-bpe", "dbrx"), SMAUG),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"), QWEN2),  # both compose in their tokenizer.json
    **dict.fromkeys(("stablelm2", "megrez", "kormo", "f2llmv2"), SINGLE_DIGITS),
    "tekken": TEKKEN,
    **dict.fromkeys(
        ("gpt-2", "phi-2", "mpt", "olmo", "jais", "gigachat", "a.x-4.0", "mellum", "trillion"), GPT2
    ),
    **dict.fromkeys(
        ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), DIGITS
    ),
    "deepseek-llm": DEEPSEEK_LLM,
    "deepseek-coder": DEEPSEEK_CODER,
    "seed-coder": SEED_CODER,
    "viking": VIKING,
}
