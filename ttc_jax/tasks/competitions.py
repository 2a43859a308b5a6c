"""AIME and AMC: competition problems whose answers are numbers.

Their text belongs to the Mathematical Association of America, and no source of it with a known
checksum can be named here: the rows come from a file of the user's.
"""

from ttc_jax.tasks.data_set import DataSet

_ADVICE = "such as the Hugging Face data set {} saved as JSON lines"


class AIME24(DataSet):
    """The 30 problems of AIME I and II of 2024; answers from 0 to 999."""

    name = "aime24"
    splits = ("test",)
    advice = _ADVICE.format("HuggingFaceH4/aime_2024")


class AIME25(DataSet):
    """The 30 problems of AIME I and II of 2025; answers from 0 to 999."""

    name = "aime25"
    splits = ("test",)
    advice = _ADVICE.format("math-ai/aime25")


class AIME26(DataSet):
    """The 30 problems of AIME I and II of 2026; answers from 0 to 999."""

    name = "aime26"
    splits = ("test",)
    advice = _ADVICE.format("math-ai/aime26")


class AMC23(DataSet):
    """40 problems of AMC 12 of 2023, put so that each has a number for an answer."""

    name = "amc23"
    splits = ("test",)
    advice = _ADVICE.format("math-ai/amc23")
