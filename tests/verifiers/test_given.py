"""Solutions in the tokens of a verifier: steps with their delimiters, or with a format's marks."""

from tests.verifiers.test_public import TOKENIZER, adapter
from ttc_jax.verifiers.given import GeneratorWriter, PRMWriter
from ttc_jax.verifiers.steps import StepFormat

[END] = TOKENIZER.eos_ids


def test_a_generator_ends_steps_with_delimiters_and_the_last_with_an_end_token():
    writer = GeneratorWriter(
        TOKENIZER, lambda text: TOKENIZER.encode(f"{text}:"), (END,), "\n", StepFormat()
    )
    shown = writer.write("so", ["it is.", "no\n", "x"])
    assert shown.prompt == TOKENIZER.encode("so:")
    assert [TOKENIZER.decode(step) for step in shown.steps] == ["it is.\n", "no\n", "x"]
    assert shown.steps[-1][-1] == END
    assert shown.read == [len(step) - 1 for step in shown.steps]
    cut = writer.write("so", ["it is."], finished=False)
    assert TOKENIZER.decode(cut.steps[0]) == "it is.\n"


def test_a_format_puts_its_marks_behind_steps():
    """As over the bridge, where a delimiter's tokens are taken out first."""
    found = adapter(bridged=True)
    shown = PRMWriter(found, TOKENIZER).write("x", ["  so.", "it\nis"])
    assert TOKENIZER.decode(shown.prompt) == "q x:"
    assert [TOKENIZER.decode(step) for step in shown.steps] == [" so.<|end|>\n", "it\nis<|end|>\n"]
    marks = [TOKENIZER.decode(step[at : at + 1]) for step, at in zip(*shown[1:], strict=True)]
    assert marks == ["<|end|>"] * 2
    tokens = TOKENIZER.encode("  so.\n")
    bridged, read = found.show(tokens, [False] * (len(tokens) - 1) + [True], first=True)
    assert (bridged, read[-1]) == (shown.steps[0], shown.read[0])
