"""A language model that is asked in text: completions of prompts, and answers to questions.

    from ttc_jax import LLM

    llm = LLM("embedded:generator", verifier="embedded:prm")
    [output] = llm.generate("03 08 12 25=61:", n=4, max_tokens=60)
    for completion in output.completions:
        print(completion.text, completion.step_scores)
    [solution] = llm.solve("03 08 12 25=61:", budget=16, max_tokens=60, task="countdown")
    print(solution.answer, solution.ledger.generations)

`generate` draws completions, as other libraries do. `solve` spends a budget on each question: it
searches, lets the candidates vote, and says what that cost. `stream` and `solve_stream` give the
same as it is written, and each of the four has an `async` twin.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

import jax
from jax.sharding import Mesh

from ttc_jax import assets
from ttc_jax.config import enable_compilation_cache
from ttc_jax.errors import UserError
from ttc_jax.experiments.sections import tokenizer_of
from ttc_jax.experiments.setup import Models
from ttc_jax.experiments.solver import Solution
from ttc_jax.llm.arguments import checked, naming_arguments
from ttc_jax.llm.calls import Calls
from ttc_jax.llm.output import Output, Piece
from ttc_jax.llm.prompts import Asked, Prompt
from ttc_jax.llm.turns import in_thread, in_threads
from ttc_jax.models.delimiters import Delimiter
from ttc_jax.models.tokenizers import Tokenizer
from ttc_jax.models.weights import load_generator
from ttc_jax.sampling.draw import SamplingParams
from ttc_jax.sampling.thinking import ThinkingFormat
from ttc_jax.tasks.prompts import PromptFormat
from ttc_jax.verifiers.load import load_verifier
from ttc_jax.verifiers.texts import Reward
from ttc_jax.verifiers.verifier import Verifier


class GenerateOptions(TypedDict, total=False):
    """The arguments of `LLM.generate` beside the prompts."""

    n: int
    max_tokens: int | None
    sampling: SamplingParams | None
    stop: str | Sequence[str] | None
    log_probs: bool
    thinking: ThinkingFormat | None
    seed: int
    deadline: float | None


class SolveOptions(TypedDict, total=False):
    """The arguments of `LLM.solve` beside the questions."""

    budget: int
    strategy: str
    options: Mapping[str, Any] | None
    judge: str
    policy: str
    rule: str
    task: str
    prompt: PromptFormat | None
    max_tokens: int | None
    max_step_tokens: int
    sampling: SamplingParams | None
    seed: int
    score_threshold: float | None
    thinking: ThinkingFormat | None
    deadline: float | None


class LLM(Calls):
    """A generator, perhaps with a verifier, loaded once.

    Programs are compiled at the first call of each kind and kept on disk (see
    `config.enable_compilation_cache`), so that another process need not compile them again. Calls
    from several threads wait for each other; iterators do so for each of their items. A reward may
    ask the LLM that it scores for; what it draws there is not scored.

    Args:
      path: a Hugging Face folder or hub name, a `.gguf` file, a folder that `ttc train` wrote, or
        "embedded:generator".
      verifier: as `load_verifier` takes it: a public PRM's hub name, or a function of your own,
        `reward(question, solutions) -> scores`; "": none.
      tokenizer: a path of its own; "": the one that lies in `path`.
      step_delimiter: text that ends a step, which a verifier scores.
      rows: candidates that are decoded together, over all prompts.
      mesh: from `sharding.mesh.make_mesh`; None: the default device.
      dtype, weights, cache: how both models are kept, see `load_generator`.

    Raises:
      UserError: as `load_generator`, `load_tokenizer` and `load_verifier`.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        verifier: str | Path | Verifier | Reward = "",
        tokenizer: str | Path = "",
        step_delimiter: str = "\n",
        rows: int = 64,
        mesh: Mesh | None = None,
        dtype: jax.typing.DTypeLike = "float32",
        weights: str = "",
        cache: str = "",
    ):
        given = checked({key: value for key, value in locals().items() if key != "self"})
        name, scorer = str(given["path"]), given["verifier"]
        if not name:
            raise UserError("path is empty: name a folder, a hub name or embedded:generator")
        storage = {key: given[key] for key in ("mesh", "dtype", "weights", "cache")}
        enable_compilation_cache()
        with naming_arguments():
            # First: a mistake in its path costs nothing, while the generator may be a long
            # download.
            self.verifier: Verifier | None = load_verifier(scorer, **storage)
            self.generator = load_generator(assets.locate(name), **storage)
            self.tokenizer: Tokenizer = tokenizer_of(
                {"path": name, "tokenizer": given["tokenizer"]}, self.generator.config.vocab_size
            )
            Delimiter.of(self.tokenizer, step_delimiter)
        super().__init__(
            Models(self.generator, self.tokenizer, self.verifier),
            (name, scorer if isinstance(scorer, str) else ""),
            {"delimiter": step_delimiter, "rows": given["rows"], "mesh": mesh},
            storage,
        )

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        *,
        n: int = 1,
        max_tokens: int | None = None,
        sampling: SamplingParams | None = None,
        stop: str | Sequence[str] | None = None,
        log_probs: bool = False,
        thinking: ThinkingFormat | None = None,
        seed: int = 0,
        deadline: float | None = None,
    ) -> list[Output]:
        """Draws n completions of each prompt; the outputs are in the order of the prompts.

        A completion depends on its prompt, the arguments and the seed, not on the other prompts.
        The same prompt twice in a call gets other completions the second time.

        Args:
          prompts: one or several. A text is read as it stands; a conversation, a list of
            {"role", "content"}, goes through the tokenizer's chat template; token ids as they are.
          max_tokens: longest completion, the end token included; by default 256, or half of a
            shorter context.
          sampling: temperature and truncation; temperature 1 by default.
          stop: texts that end a completion, and are not part of it; they end no thought.
          log_probs: whether to tell the log-probability of each token, which takes another pass.
          thinking: marks and budgets of a model that thinks first (`Completion.reasoning`).
          deadline: seconds from the call, in which a program may first have to be compiled. Then
            completions that are being written end where they are, and those of prompts whose turn
            has not come are empty; both have the finish reason "deadline", and the ledger holds
            what was written. What is written is still scored, where there is a verifier.

        Raises:
          UserError: no prompt, one that does not fit the model's context, or an argument that
            cannot be.
        """
        return self._generate({name: x for name, x in locals().items() if name != "self"})

    def stream(self, prompt: Prompt, **options: Unpack[GenerateOptions]) -> Iterator[Piece]:
        """Draws completions of one prompt as `generate`, and yields their texts meanwhile.

            for piece in llm.stream("03 08 12 25=61:", max_tokens=60):
                print(piece.text, end="", flush=True)

        Pieces come a few times a second. A text waits where it may be half of a character or the
        beginning of a stop text; so the pieces of a completion make up the text that `generate`
        returns. The last piece has no text, and holds that output.

        Args:
          options: as those of `generate`.

        Raises:
          UserError: as `generate`, at the first piece at the latest.
        """
        return self._stream(_arguments(LLM.generate, prompt, options))

    def solve(
        self,
        questions: Asked | Sequence[Asked],
        *,
        budget: int = 16,
        strategy: str = "",
        options: Mapping[str, Any] | None = None,
        judge: str = "",
        policy: str = "",
        rule: str = "",
        task: str = "math",
        prompt: PromptFormat | None = None,
        max_tokens: int | None = None,
        max_step_tokens: int = 128,
        sampling: SamplingParams | None = None,
        seed: int = 0,
        score_threshold: float | None = None,
        thinking: ThinkingFormat | None = None,
        deadline: float | None = None,
    ) -> list[Solution]:
        """Answers each question with a generation budget; solutions are in the questions' order.

        Args:
          questions: one or several: texts; conversations, as for `generate`, whose last turn of a
            user is the question; or `Question`s where ids and gold answers are known.
          budget: generations a question.
          strategy: of `search.strategies.STRATEGIES`; "": beam with a verifier, else best-of-N.
          options: the strategy's, such as {"width": 4}.
          judge: of the candidates, such as "pick:generator" (see `find_judge`); "": they vote.
          policy: what `ttc policy` wrote, which then chooses the strategy by difficulty.
          rule: how the answer is chosen from the candidates (`results.selection.RULES`); "":
            weighted by scores with a verifier, else by majority.
          task: whose rules read an answer in a completion, such as "math" or "gsm8k".
          prompt: how a question becomes a prompt; by default as its text, in the chat template
            where the tokenizer has one. Of a conversation it changes the chat template's arguments
            alone.
          max_tokens, max_step_tokens: of a candidate, and of one of its steps; by default 512 and
            128, or half of a shorter context.
          score_threshold: a question's search ends once a finished candidate has such a score; the
            other candidates are cut off where they stand. It is looked at when all candidates have
            written a step, so that results do not depend on what else is searched. Best-of-N
            scores no candidate before all are written: it is refused, or, where a policy chooses
            it, goes without.
          thinking: marks and budgets of a model that thinks first; its answer alone votes, and its
            steps alone are scored unless `ThinkingFormat.steps` is set.
          deadline: seconds from the call, in which a program may first have to be compiled. Then
            questions are answered from what is written, or not at all, and marked
            (`Solution.cut`); the ledger holds what was written. A budget and a deadline may be
            given both: whichever ends first.

        Raises:
          UserError: as `Solver` and `Solver.solve`.
        """
        return self._solve({name: x for name, x in locals().items() if name != "self"})

    def solve_stream(
        self,
        questions: Asked | Sequence[Asked],
        **options: Unpack[SolveOptions],
    ) -> Iterator[Solution]:
        """Answers questions as `solve`, and yields solutions in the order in which they are found.

        Args:
          options: as those of `solve`.

        Raises:
          UserError: as `solve`, at the first solution at the latest.
        """
        return self._solve_stream(_arguments(LLM.solve, questions, options))

    async def agenerate(
        self, prompts: Prompt | Sequence[Prompt], **options: Unpack[GenerateOptions]
    ) -> list[Output]:
        """Does as `generate`, in a thread, so that an event loop goes on meanwhile.

        One that is cancelled ends as at a deadline.
        """
        given = _arguments(LLM.generate, prompts, options)
        return await in_thread(functools.partial(self._generate, given))

    def astream(self, prompt: Prompt, **options: Unpack[GenerateOptions]) -> AsyncIterator[Piece]:
        """Does as `stream`, in a thread, so that an event loop goes on meanwhile."""
        left = threading.Event()
        return in_threads(self._stream(_arguments(LLM.generate, prompt, options), left), left)

    async def asolve(
        self,
        questions: Asked | Sequence[Asked],
        **options: Unpack[SolveOptions],
    ) -> list[Solution]:
        """Does as `solve`, in a thread, so that an event loop goes on meanwhile.

        One that is cancelled ends as at a deadline.
        """
        given = _arguments(LLM.solve, questions, options)
        return await in_thread(functools.partial(self._solve, given))

    def asolve_stream(
        self,
        questions: Asked | Sequence[Asked],
        **options: Unpack[SolveOptions],
    ) -> AsyncIterator[Solution]:
        """Does as `solve_stream`, in a thread, so that an event loop goes on meanwhile."""
        left = threading.Event()
        return in_threads(self._solve_stream(_arguments(LLM.solve, questions, options), left), left)


def _arguments(method: Any, asked: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns all arguments of a method but `self`, with its defaults."""
    bound = inspect.signature(method).bind(None, asked, **options)
    bound.apply_defaults()
    return {name: value for name, value in bound.arguments.items() if name != "self"}
