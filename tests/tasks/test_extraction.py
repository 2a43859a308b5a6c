r"""Where answers are found: boxes, thoughts, `####`, prose."""

import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttc_jax.tasks.extraction import (
    answer_part,
    boxed,
    boxed_answers,
    opened_thought,
)
from ttc_jax.tasks.formulas import stated_answer
from ttc_jax.tasks.numerals import counted
from ttc_jax.tasks.prose import after_hashes, last_number, stated_number


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        (r"so \boxed{5}", "5"),
        (r"\boxed{1} no, \boxed{2}", "2"),
        (r"\boxed{9.}", "9"),
        (r"\boxed{ x , }", "x"),
        (r"\boxed{3\,}.", "3"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed {7}", "7"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{ x \right.}", r"\left\{ x \right"),
        (r"\boxed{a \\}", r"a \\"),
        (r"{ \boxed{4} and an open {brace", "4"),
        (r"\boxed{4} then cut off \boxed{\frac{1}{", "4"),
        (r"\boxed{\boxed{6}}", "6"),
        (r"} \boxed{8}", "8"),
        (r"\boxed{}", None),
        (r"\boxed{.}", None),
        (r"\boxed{1", None),
        ("boxed{1}", None),
        ("", None),
        (r"\\boxed{5}", "5"),  # escaped twice
        # Other spellings of a box.
        (r"\fbox{5}", "5"),
        (r"\framebox{5}", "5"),
        (r"so \boxed 5.", "5"),
        (r"\boxed5", "5"),
        (r"\boxed12", "12"),
        (r"$x = \boxed -3$", "-3"),
        (r"$\boxed\frac12$", r"\frac12"),
        (r"\boxed\frac{1}{2} is", r"\frac{1}{2}"),
        (r"$\boxed\pi$ and", r"\pi"),
        (r"\(\boxed 2\sqrt 3\) and", r"2\sqrt 3"),
        (r"$$\boxed x$$", "x"),
        (r"put it in \boxed, as asked", None),
        (r"put it in \boxed a frame", None),
    ],
)
def test_boxed_takes_the_last_complete_box(solution: str, answer: str | None) -> None:
    assert boxed(solution) == answer


ECHOES = [
    "{}", "{ }", "{...}", "{…}", r"{\ldots}", r"{\dots}", "{?}", "{___}", r"{\_\_}", r"{\square}",
    "{answer}", "{ANSWER}", "{your answer}", r"{\text{answer}}", r"{\text{Your final answer here}}",
    "{<answer>}", "{[answer]}", "{the number}", r"{\phantom{0}}", r"{\boxed{}}", "", r"\{\}",
]  # fmt: skip


@pytest.mark.parametrize("echo", ECHOES)
def test_an_echoed_instruction_is_no_answer(echo: str) -> None:
    echo = rf"\boxed{echo}"
    assert boxed(f"It is {echo} as asked.") is None
    assert boxed(rf"It is \boxed{{18}}, in {echo} as asked.") == "18"
    assert boxed(rf"I shall put it in {echo}. It is \boxed{{18}}.") == "18"
    assert boxed_answers(rf"\boxed{{1}} or \boxed{{2}}, in {echo} as asked.") == "1, 2"


@pytest.mark.parametrize(
    ("solution", "answers"),
    [
        (r"\boxed{1} and \boxed{2}", "1, 2"),
        (r"$\boxed{1}$, $\boxed{2}$ or $\boxed{3}$.", "1, 2, 3"),
        (r"\(\boxed{3}\) and \(\boxed{-3}\)", "3, -3"),
        (r"$x=\boxed{1}, y=\boxed{2}$", "1, 2"),
        (r"\[x = \boxed{5} \quad\text{or}\quad x=\boxed{6}\]", "5, 6"),
        (r"\boxed{7}, \boxed{7}", "7"),
        # Unlike math-verify: other words part the boxes, and so does the lack of a separator.
        (r"\boxed{1} no, \boxed{2}", "2"),
        (r"$a=\boxed{3}$, $b=\boxed{4}$, so the sum is $\boxed{7}$", "7"),
        (r"\boxed{17}" + "\n\n" + r"\boxed{18}", "18"),
        (r"\boxed{1}" + "," * 100 + r"\boxed{2}", "2"),
        ("none", None),
    ],
)
def test_boxes_in_a_list_are_one_answer(solution: str, answers: str | None) -> None:
    assert boxed_answers(solution) == answers


THOUGHTS = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<Thought>", "</Thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<seed:think>", "</seed:think>"),
    ("◁think▷", "◁/think▷"),
    ("[THINK]", "[/THINK]"),
]


@pytest.mark.parametrize(("start", "end"), THOUGHTS)
def test_the_answer_is_sought_behind_the_thoughts(start: str, end: str) -> None:
    thought = r"So \boxed{5}. #### 5" + "\nThe answer is 5. Therefore $x = 5$."
    for read in (boxed, boxed_answers, after_hashes, stated_number, last_number, stated_answer):
        assert read(start + thought) is None
        assert read(f"{start}{thought}{end}") is None
    assert boxed(rf"{start}{thought}{end} \boxed{{6}}") == "6"
    assert boxed(rf"{thought}{end} \boxed{{6}}") == "6"  # the prompt began the thought
    assert boxed(rf"{start}a{end}{thought}{end} \boxed{{6}}") == "6"
    assert boxed(rf"\boxed{{6}} {start}{thought}") == "6"
    assert last_number(f"{start}{thought}{end} 6") == "6"
    assert last_number("[Reasoning] 9, a < thought > 6") == "6"
    assert answer_part(f"{start}a{end}b") == answer_part("b") == "b"


@pytest.mark.parametrize(("start", "end"), THOUGHTS)
def test_a_prompt_may_open_a_thought(start: str, end: str) -> None:
    for prompt in (start, f"<|im_start|>assistant\n{start}\n", f"{start}a{end} {start} "):
        assert opened_thought(prompt) == start
    for prompt in ("", "x", end, f"{start}a", f"{start}\n\n{end}\n\n", f"Think in {start} tags."):
        assert opened_thought(prompt) == ""
    assert answer_part(opened_thought(f"1+1?\n{start}\n") + r"so \boxed{5}") == ""


def test_a_long_unfinished_thought_has_no_answer() -> None:
    assert boxed(r"<think> \boxed{5}" + "x" * 200_000 + r" \boxed{6}") is None
    assert boxed("<think>" + "x" * 300_000 + r"</think> \boxed{6}") == "6"


BALANCED = st.recursive(
    st.text(alphabet=string.ascii_letters + r"0123456789+-=^_ ", min_size=1),
    lambda inner: st.lists(
        st.one_of(
            inner, inner.map("{{{}}}".format), st.sampled_from([r"\{", r"\}", r"\\", r"\frac "])
        ),
        min_size=1,
    ).map("".join),
    max_leaves=10,
)


@given(BALANCED, st.text(), st.text(alphabet=string.ascii_letters + " .$}\n"))
def test_boxed_finds_what_was_boxed(content: str, before: str, after: str) -> None:
    found = boxed(f"{before} \\boxed{{18 {content}}}{after}")
    assert found == boxed(f"\\boxed{{18 {content}}}")
    assert f"18 {content}".startswith(found or "?")


@given(st.text(alphabet=r"\boxed{}. x", max_size=60))
def test_boxed_is_always_balanced(text: str) -> None:
    found = boxed(text)
    if found is not None:
        plain = found.replace(r"\\", "").replace(r"\{", "").replace(r"\}", "")
        assert plain.count("{") == plain.count("}")
        assert found in text


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{" * 10**6,
        "{" * 10**7,
        "\n" * 10**7,
        " " * 10**7 + "####",
        "\\boxed" + " " * 10**7,
        "\\boxed{" + "\\," * 10**6 + "}",
    ],
    ids=range(6),
)
def test_ten_megabytes_are_searched_at_once(text: str) -> None:
    start = time.process_time()
    boxed(text)
    after_hashes(text)
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize(
    ("solution", "number"),
    [
        ("2 * 9 = 18\n#### 18", "18"),
        ("#### 18.\n\nQuestion: another\n#### 7", "18"),  # a model that does not stop
        ("#### 18\n\n**Problem:** another\n#### 7", "18"),
        ("#### 9\n#### 18", "18"),
        ("#### 18\n#### done", "18"),
        ("####18", "18"),
        ("##### 18", "18"),
        ("#### **18**", "18"),
        ("**#### 18**", "18"),
        ("#### $18", "18"),
        ("#### \\$18 per day", "18"),
        ("#### = 18", "18"),
        ("#### Total: $1,200", "1,200"),
        ("#### 18 eggs per day", "18"),
        ("#### 12kg", "12"),
        ("#### −3", "-3"),
        ("#### - 3", "-3"),
        ("#### minus 3 degrees", "-3"),
        ("#### 1/3 pound", "1/3"),
        ("#### 1e3", "1e3"),
        ("#### 9 * 2 = 18", "18"),
        ("#### Final answer: 18", "18"),
        ("#### The answer is 18.", "18"),
        ("#### Answer\n18", "18"),
        ("#### Final Answer:\n\n**18 dollars**", "18"),
        ("#### Answer\nShe makes 18 dollars at 2 stands.", "18"),
        ("####\n18", "18"),
        ("####\nno answer", None),
        ("#### Step 2", None),
        ("#### Step 2: Multiply by 3", None),
        ("#### 1. Eggs left: 9", None),
        ("#### Eggs left: 9", None),
        ("#### Monday: 9\n#### Tuesday: 9", None),
        ("#### Day 2", None),
        ("#### Cost of 3 shirts\n3 * 6 = 18", None),
        ("of #### within a line", None),
        ("### 18", None),
        ("", None),
    ],
)
def test_after_hashes(solution: str, number: str | None) -> None:
    assert after_hashes(solution) == number


@pytest.mark.parametrize(
    ("solution", "number"),
    [
        # The number near the phrase, not the last one.
        ("The answer is 18, since 3 of 20 are left.", "18"),
        ("Answer: 18\nI used 2 steps.", "18"),
        ("**Answer:** 18 because of 4", "18"),
        ("**Final Answer**: $18$ (9 x 2)", "18"),
        ("ANSWER:\n\n18\n\nThat took 2 steps.", "18"),
        ("The final answer is:\n\n\\[ 18 \\]\n\nfor 2 days", "18"),
        ("### Final Answer\nJanet makes 18 dollars from 9 eggs.", "18"),
        ("<answer>18</answer> 3", "18"),
        ("The correct answer would be $1,200 for 2.", "1,200"),
        ("The answer to question 3 is 18 of 20.", "18"),
        ("Our answer for 2 days is therefore 4. No: the answer is 18. Checked 2 times.", "18"),
        ("18 is the answer to 7.", "18"),
        ("So $18 is our final answer. Done in 2 steps.", "18"),
        ("The answer is minus 3 of 5.", "-3"),
        ("The answer is 1. Since 3 are left", "1"),
        # The result of what the phrase begins.
        ("The answer is 9 * 2 = 18. There are 3.", "18"),
        ("The answer is the sum of 5 and 13, which is 18. It took 2 steps.", "18"),
        # The last statement, of `####` too.
        ("The answer is 9.\nThe answer is 18.", "18"),
        ("#### Eggs left: 9\nNow 9 * 2 = 18. The answer is 18.", "18"),
        ("#### The total is 9\nNow 9 * 2 = 18. The answer is 18.", "18"),
        ("The answer is 9.\n#### 18", "18"),
        ("#### Step 1: 16 - 7 = 9 #### Step 2: 9 * 2 = 18. The answer is 18, not 9.", "18"),
        ("The answer is 18.\n\nQ: And now?\nThe answer is 7.", "18"),
        # A title behind which the whole solution stands, and a phrase that leads nowhere.
        ("Answer: Janet has 16 eggs. She eats 3 of them. So 18.", None),
        ("Answer: 16 - 7 = 9 eggs are left. 9 * 2 = 18.", None),
        ("Answer: 16 eggs are laid. She eats 3.", None),
        ("Answer: She makes 18 dollars at 2 stands.", "18"),
        ("Answer: 9 * 2 = 18.", "18"),
        ("Answer: 18 eggs every day\n\nShe eats 3.", "18"),
        ("The answer is found by adding 16 and 3. So it is 18.", None),
        ("The answer is a total of 18 dollars. It took 2 steps.", "18"),
        # No statement.
        ("Answer the following question: there are 16 eggs.", None),
        ("To answer this, there are 16 eggs.", None),
        ("The answer is here. 18", None),
        ("18", None),
    ],
)
def test_stated_number(solution: str, number: str | None) -> None:
    assert stated_number(solution) == number


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("So 250 + 250 = 500, which is 50% of it.", "50"),
        ("She earns $1,234.50.", "1,234.50"),
        ("The answer is 48.", "48"),
        ("it is -3", "-3"),
        ("10 - 3", "3"),
        ("3 x 4 = 12 eggs, that is x2", "12"),
        ("it takes 3 bags of 10.5kg", "10.5"),
        ("so 2 x 337.5n", "2"),
        ("It falls to −3 degrees.", "-3"),
        ("#### 1. Eggs left: 9\nShe makes 9 * 2 = 18 dollars.", "18"),
        ("none", None),
        ("", None),
    ],
)
def test_last_number(solution: str, answer: str | None) -> None:
    assert last_number(solution) == answer


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        # The phrases of the usual prompts.
        (r"Final Answer: The final answer is $16\pi$. I hope it is correct.", r"16\pi"),
        (r"The answer is $16\pi$.", r"16\pi"),
        ("**Answer:** $\\frac{3}{4}$", r"\frac{3}{4}"),
        ("The final answer is:\n\n\\[ 16\\pi \\]", r"16\pi"),
        ("ANSWER:\n$$\n16\\pi\n$$\nDone.", r"16\pi"),
        (r"The answer is \(x = 7\).", "x = 7"),
        (r"We see that $16\pi$ is the answer.", r"16\pi"),
        ("The answer is $18$, since $3$ of $20$.", "18"),
        ("The answer is the sum $3+15$, which is $18$.", "18"),
        ("The answers are $x=2$ or $x=3$.", "x=2, x=3"),
        ("The answer is 5, since $x=3$.", "5"),
        ("The answers are $x<2$ or $x>3$.", "x<2, x>3"),
        ("Answer: We have $x=2$ here. Then $y = 5$.", "y = 5"),
        ("**Answer:** $5$\n\nHere is why: $x=2$ and $y$ is odd.", "5"),
        ("The answer is found from $x=2$. So $y=3$.", "y=3"),
        ("It gives the correct answer of 63.", "63"),
        ("The answer is 12.", "12"),
        ("The answer is that there are 12 ways.", "12"),
        (r"Answer: \sqrt{3}/2", r"\sqrt{3}/2"),
        ("The answer is x = 5.", "x = 5"),
        ("The answer is [0,1).", "[0,1)"),
        ("The answer is (A).", "(A)"),
        ("The answer is no solution.", "no solution"),
        ("The answer is A because of it.", "A"),
        ("The answer is $3$. No, the answer is $4$.", "4"),
        (
            "The final answer is $5$. I hope it is correct.\n\nProblem:\nAnother.\n\n"
            "The final answer is $7$. I hope it is correct.",
            "5",
        ),
        # The last sentence.
        ("The probability is **3/5**.", "3/5"),
        ("It has **two** roots.", None),
        ("Then $c = 2$, which gives $a = 2$, making $n = 13$, which gives $", None),  # cut off
        (r"To express \(\sqrt{145}\)", None),
        (r"So \(x = \sqrt{145}\)", r"x = \sqrt{145}"),
        ("Therefore, $x^3=12$.", "x^3=12"),
        ("Since $y=1$, $x = 3$. Thus, $x=2$", "x=2"),
        (r"Hence \[x = 5.\]", "x = 5"),
        (r"So \(x = 7\). I hope this helps!", "x = 7"),
        (r"Hence $b = 2$. $\blacksquare$", "b = 2"),
        ("Therefore $f(x) = 2$ for all $x$.", "f(x) = 2"),
        ("The roots are $1$, $2$ and $3$.", "1, 2, 3"),
        ("so $2x=4$, $x=2$.", "x=2"),
        ("$24=2q$, or $q=12$.", "q=12"),
        ("Thus $ x = 83$.", "x = 83"),
        ("We get\n\\begin{align*}\nx+y &= 2+3 \\\\\n&= 5.\n\\end{align*}", "5"),
        ("\\begin{align*}2x &= 10 \\\\ x &= 5\\end{align*}", "x = 5"),
        ("\\begin{align}2x &\\equiv 9+1 \\\\ &\\equiv 2\\pmod{4}. \\\\ \\end{align}", "2"),
        (
            r"\begin{align*}v &= w \\ &= \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}.\end{align*}",
            r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
        ),
        ("Therefore, there are 12 ways.", "12"),
        ("So it costs $5.", "5"),
        # No answer.
        ("There are $3$ of them. Let us see", None),
        ("Therefore $x = \\frac{1}{", None),
        ("We add $3$.\n\nThis ends the proof.", None),
        ("It costs $5 and $6.", None),
        ("The answer is $\\boxed{}$", None),
        ("There are 12 ways", None),
        ("27", None),
        ("", None),
    ],
)
def test_stated_answer(solution: str, answer: str | None) -> None:
    assert stated_answer(solution) == answer


HOSTILE = [
    "\\boxed 5$" * 10**6,
    "<think>" * 10**6,
    "#### Answer\n" * 10**6,
    "the answer is " * 10**6,
    "answer: $a \\[ b" * 10**6,
    "is the answer $1$ " * 10**6,
    "$$a" * 10**6 + ".",
    "1 " * 10**6,
    "1,234 5/6½" * 10**6,
    "-" * 10**7 + "1",
    "\\boxed{1}," * 10**6,
    "\\boxed{" + "the " * 10**6 + "}",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_solutions_are_read(text: str) -> None:
    """A search that takes more than linear time would not end."""
    text = text[:50_000]
    for read in (boxed_answers, after_hashes, stated_number, last_number, stated_answer, counted):
        answer = read(text)
        assert answer is None or len(answer) < 1000
