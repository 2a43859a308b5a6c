"""Chat templates: rendered as transformers does, the same every day, and within bounds."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import pytest

from ttc_jax.errors import UserError
from ttc_jax.models.hub import transformers
from ttc_jax.models.templates import render
from ttc_jax.models.tokenizers import HFTokenizer

USER = [{"role": "user", "content": "1+1?"}]
THINKING = "{% if enable_thinking is defined %}{{ enable_thinking }}{% else %}unset{% endif %}"


def rendered(template: str, **arguments: Any) -> str:
    return render(template, USER, {"bos_token": "<s>"}, arguments)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ strftime_now('%d %b %Y, %A %H:%M') }}", "26 Jul 2024, Friday 00:00"),
        ("{{ strftime_now('%Y') if strftime_now is defined else '' }}", "2024"),
        ("{% set f = strftime_now %}{{ f('%B') }}", "July"),
        ("{{ date_string }}", "26 Jul 2024"),
        ("{{ range(1000)|random }} {{ range(1000)|random }}", "864 394"),
        ("{{ lipsum(1, html=False)|length }}", None),
        ("{{ bos_token }}{{ messages[0].content }}", "<s>1+1?"),
        ("{{ add_generation_prompt }}", "True"),
        ("{{ messages|tojson }}", '[{"role": "user", "content": "1+1?"}]'),
        ("{% generation %}a{% endgeneration %}", "a"),
        ("{% for x in 'ab' %}{% if x == 'b' %}{% break %}{% endif %}{{ x }}{% endfor %}", "a"),
        ("{% set n = namespace(x=1) %}{% set n.x = 2 %}{{ n.x }}{{ dict(a=1).a }}", "21"),
        (THINKING, "unset"),
    ],
)
def test_renders_the_same_text_always(template: str, text: str | None) -> None:
    first = rendered(template)
    assert first == rendered(template)
    assert text in (None, first)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [({"enable_thinking": False}, "False"), ({"enable_thinking": "é"}, "é")],
)
def test_takes_arguments(arguments: dict[str, Any], text: str) -> None:
    assert rendered(THINKING, **arguments) == text


def test_arguments_may_be_lists_and_come_before_ours() -> None:
    assert rendered("{% for t in tools %}{{ t.name }}{% endfor %}", tools=[{"name": "f"}]) == "f"
    assert rendered("{{ date_string }}", date_string="1 Jan") == "1 Jan"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"enable_thinkin": False}, "does not read 'enable_thinkin'; it reads enable_thinking"),
        ({"messages": []}, "'messages' is set by ttc_jax"),
        ({"add_generation_prompt": False}, "'add_generation_prompt' is set by ttc_jax"),
        ({"tokenize": True}, "does not read 'tokenize'"),
        ({"return_assistant_tokens_mask": True}, "is set by ttc_jax"),
        ({"continue_final_message": True}, "is set by ttc_jax"),
        ({"chat_template": "x"}, "'chat_template' is set by ttc_jax"),
        ({"conversations": []}, "'conversations' is set by ttc_jax"),
        ({"enable_thinking": {1}}, "chat_template_kwargs must be what JSON can say"),
        ({"enable_thinking": b"no"}, "chat_template_kwargs must be what JSON can say"),
        ({"enable_thinking": functools.reduce(lambda x, _: [x], range(9**5), [])}, "JSON can say"),
        ({"enable_thinking": "\ud83d"}, "chat_template_kwargs, as JSON, holds"),
        ({"enable_thinking": ["\ud83d\ude00"]}, "chat_template_kwargs, as JSON, holds"),
    ],
)
def test_refuses_arguments_that_would_be_ignored(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        rendered(THINKING + "{{ messages|length }}{{ chat_template }}", **arguments)


HUGE = 10**5
BOUNDS = "takes more than"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        # These two end the worker, and the next test starts another.
        (f"{{% for a in range({HUGE}) %}}" * 2 + "{% endfor %}" * 2, BOUNDS),
        (f"{{% for a in range({HUGE}) %}}{{{{ range({HUGE})|sum }}}}{{% endfor %}}", BOUNDS),
        ("{{ 'x' * 10**10 }}", BOUNDS),
        ("{% set n = messages|length * 10**10 %}{{ 'x' * n }}", BOUNDS),
        ("{{ [0] * 10**10 }}", BOUNDS),
        ("{{ '%1000000000d'|format(1) }}", BOUNDS),
        ("{{ 'a'|center(2000000000) }}", BOUNDS),
        ("{{ 'ab ' * 5000000 }}", "it writes 15,000,000 characters"),
        (f"{{% for a in range({HUGE * HUGE}) %}}{{% endfor %}}", "Range too big"),
        ("{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "recursion"),
        ("{{ " + "(" * 50_000 + "1" + ")" * 50_000 + " }}", "recursion"),
        ("{% if 1 %}" * 3000 + "{% endif %}" * 3000, "recursion"),
        ("{% if %}", "Expected an expression"),
        ("{{ raise_exception('no\nsystem turn') }}", "conversation: no system turn"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ cycler.__init__.__globals__ }}", "unsafe"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{% include '/etc/passwd' %}", "no loader"),
        ("{{ now() }}", "'now' is undefined"),
        ("{{ strftime_now() }}", "conversation"),
    ],
)
def test_hostile_templates_are_one_line(template: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        rendered(template)
    assert "\n" not in str(caught.value)
    assert rendered("{{ messages|length }}") == "1"  # and the next one is read


def test_a_worker_that_does_not_start_is_told(tmp_path: Path) -> None:
    from ttc_jax.workers import Worker

    program = tmp_path / "program.py"
    program.write_text("raise SystemExit(3)")
    worker = Worker(program, seconds=1, megabytes=100, needs="all of it")
    with pytest.raises(UserError, match=r"program.py ended at its start with code 3: is all of it"):
        worker.ask("a")


REAL = [name for name in ("llama3_1", "qwen3") if os.environ.get("TTC_TOKENIZERS")]


@pytest.mark.parametrize("name", REAL)
def test_real_templates_render_as_in_transformers(name: str) -> None:
    folder = Path(os.environ["TTC_TOKENIZERS"]) / name
    theirs = transformers().AutoTokenizer.from_pretrained(folder)
    if not theirs.chat_template:
        pytest.skip("has no chat template")
    ours = HFTokenizer(theirs)
    messages = [
        {"role": "system", "content": "Be brief. é"},
        *USER,
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\n2"},
        {"role": "user", "content": "  and 2+2?\n\n"},
    ]
    arguments: dict[str, Any] = {"enable_thinking": False} if name == "qwen3" else {}
    for turns in (USER, messages):
        for told in ({}, arguments):
            expected = theirs.apply_chat_template(
                turns, add_generation_prompt=True, return_dict=False, **told,
                **({"date_string": "26 Jul 2024"} if name == "llama3_1" else {}),
            )  # fmt: skip
            assert ours.chat(turns, told) == expected
