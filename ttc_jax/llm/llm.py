"""A language model that is asked in text: completions of prompts, and answers to questions.

    from ttc_jax import LLM

    llm = LLM("embedded:generator", verifier="embedded:prm")
    [output] = llm.generate("c-01 b+02 a=81:", n=4, max_tokens=100)
    for completion in output.completions:
        print(completion.text, completion.step_scores)
    [solution] = llm.solve("c-01 b+02 a=81:", budget=16, strategy="beam", task="arithmetic")
    print(solution.answer, solution.ledger.generations)

`generate` draws completions, as other libraries do. `solve` spends a budget on each question: it
searches, lets the candidates vote, and says what that cost.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict, Unpack

import jax
from jax.sharding import Mesh

from ttc_jax import assets, hashing
from ttc_jax.config import enable_compilation_cache
from ttc_jax.errors import UserError
from ttc_jax.experiments.fitted import Fitted
from ttc_jax.experiments.sections import tokenizer_of
from ttc_jax.experiments.setup import Models, Setup, fitting
from ttc_jax.experiments.solver import Solution, Solver
from ttc_jax.llm.output import Completion, Output
from ttc_jax.llm.prompts import Prompt, message_of, question_of, several
from ttc_jax.models.delimiters import Delimiter
from ttc_jax.models.tokenizers import Tokenizer
from ttc_jax.models.weights import load_generator
from ttc_jax.policy_file import Entry, read_policy
from ttc_jax.results.selection import RULES
from ttc_jax.sampling.draw import SamplingParams
from ttc_jax.sampling.log_probs import LogProbs
from ttc_jax.sampling.programs import shards
from ttc_jax.sampling.thinking import ThinkingFormat
from ttc_jax.search.execution import Execution
from ttc_jax.search.plan import Plan
from ttc_jax.search.search import Search, SearchResult
from ttc_jax.search.strategies import make_strategy
from ttc_jax.tasks import load_task
from ttc_jax.tasks.prompts import PromptFormat
from ttc_jax.tasks.task import Question
from ttc_jax.verifiers.adapter import PRMAdapter
from ttc_jax.verifiers.load import load_verifier
from ttc_jax.verifiers.verifier import Verifier

Marks = ThinkingFormat | None


class Storage(TypedDict):
    """How a model is kept: see `load_generator`."""

    dtype: NotRequired[jax.typing.DTypeLike]
    weights: NotRequired[str]
    cache: NotRequired[str]


class LLM:
    """A generator, perhaps with a verifier, loaded once.

    Programs are compiled at the first call of each kind and kept on disk (see
    `config.enable_compilation_cache`), so that another process need not compile them again. Calls
    from several threads wait for each other.

    Args:
      path: a Hugging Face folder or hub name, a `.gguf` file, a folder that `ttc train` wrote, or
        "embedded:generator".
      verifier: as `load_verifier` takes it, such as a public PRM's hub name; "": none.
      tokenizer: a path of its own; "": the one that lies in `path`.
      step_delimiter: text that ends a step, which a verifier scores.
      rows: candidates that are decoded together, over all prompts.
      mesh: from `sharding.mesh.make_mesh`; None: the default device.
      storage: dtype and int8 options of both models, see `load_generator`.

    Raises:
      UserError: as `load_generator`, `load_tokenizer` and `load_verifier`.
    """

    def __init__(
        self,
        path: str,
        *,
        verifier: str = "",
        tokenizer: str = "",
        step_delimiter: str = "\n",
        rows: int = 64,
        mesh: Mesh | None = None,
        **storage: Unpack[Storage],
    ):
        if rows < 1:
            raise UserError(f"rows is {rows}; it must be at least 1")
        enable_compilation_cache()
        self.path, self.verifier_path, self.mesh = path, verifier, mesh
        self._tokenizer_path, self._storage = tokenizer, storage
        self._delimiter, self._rows = step_delimiter, rows
        # First: a mistake in its path costs nothing, while the generator may be a long download.
        self.verifier: Verifier | None = load_verifier(verifier, mesh=mesh, **storage)
        self.generator = load_generator(assets.locate(path), mesh=mesh, **storage)
        self.tokenizer: Tokenizer = tokenizer_of(
            {"path": path, "tokenizer": tokenizer}, self.generator.config.vocab_size
        )
        self._turn = threading.Lock()
        self._searches = functools.lru_cache(maxsize=16)(self._make_search)
        self._solvers = functools.lru_cache(maxsize=16)(self._make_solver)

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        *,
        n: int = 1,
        max_tokens: int = 256,
        sampling: SamplingParams | None = None,
        stop: str | Sequence[str] = (),
        log_probs: bool = False,
        thinking: ThinkingFormat | None = None,
        seed: int = 0,
    ) -> list[Output]:
        """Draws n completions of each prompt; the outputs are in the order of the prompts.

        A completion depends on its prompt, the arguments and the seed, not on the other prompts.
        The same prompt twice in a call gets other completions the second time.

        Args:
          prompts: one or several. A text is read as it stands; a conversation, a list of
            {"role", "content"}, goes through the tokenizer's chat template; token ids as they are.
          max_tokens: longest completion, the end token included.
          sampling: temperature and truncation; temperature 1 by default.
          stop: texts that end a completion, and are not part of it.
          log_probs: whether to tell the log-probability of each token, which takes another pass.
          thinking: marks and budgets of a model that thinks first (`Completion.reasoning`).

        Raises:
          UserError: no prompt, one that does not fit the model's context, or an argument that
            cannot be.
        """
        stops = (stop,) if isinstance(stop, str) else tuple(stop)
        if "" in stops:
            raise UserError("stop holds an empty text, which every completion would end with")
        asked = several(prompts)
        encoded = [self._encode(prompt) for prompt in asked]
        seen: Counter[tuple[int, ...]] = Counter()
        numbers = []
        for tokens in encoded:
            text = " ".join(map(str, (seed, seen[tuple(tokens)], *tokens)))
            numbers.append(hashing.number_of(text))
            seen[tuple(tokens)] += 1
        with self._turn:
            marks = thinking and dataclasses.replace(thinking, minimum=0, maximum=None)
            search = self._searches(n, max_tokens, sampling or SamplingParams(), stops, marks)
            shown = None
            if search.adapter is not None:
                texts = [question_of(x, self.tokenizer) for x in asked]
                shown = [search.adapter.prompt(text) for text in texts]
            budget = thinking and thinking.tokens(self.tokenizer)
            found = dict(search.run(encoded, numbers, shown, budget))
            outputs = [self._output(encoded[i], found[i], stops) for i in range(len(encoded))]
            return [self._with_log_probs(x) for x in outputs] if log_probs else outputs

    def solve(
        self,
        questions: str | Question | Sequence[str | Question],
        *,
        budget: int = 16,
        strategy: str = "",
        options: Mapping[str, Any] | None = None,
        policy: str = "",
        rule: str = "",
        task: str = "math",
        prompt: PromptFormat | None = None,
        max_tokens: int = 512,
        max_step_tokens: int = 128,
        sampling: SamplingParams | None = None,
        seed: int = 0,
    ) -> list[Solution]:
        """Answers each question with a generation budget; solutions are in the questions' order.

        Args:
          questions: texts, or `Question`s where ids and gold answers are known.
          budget: generations a question.
          strategy: of `search.strategies.STRATEGIES`; "": beam search with a verifier, else
            best-of-N.
          options: the strategy's, such as {"width": 4}.
          policy: what `ttc policy` wrote, which then chooses the strategy by difficulty.
          rule: how the answer is chosen from the candidates (`results.selection.RULES`); "":
            weighted by scores with a verifier, else by majority.
          task: whose rules read an answer in a completion, such as "math" or "gsm8k".
          prompt: how a question becomes a prompt; by default as its text, in the chat template
            where the tokenizer has one.
          max_tokens, max_step_tokens: of a candidate, and of one of its steps.

        Raises:
          UserError: as `Solver` and `Solver.solve`.
        """
        alone = isinstance(questions, str | Question)
        asked: Sequence[str | Question] = [questions] if alone else list(questions)
        scored = self.verifier is not None
        if rule and rule not in RULES:
            raise UserError(f"rule: {rule!r} is unknown; choose {', '.join(RULES)}")
        if rule not in ("", "majority") and not scored:
            raise UserError(
                f"rule is {rule}: reads scores, and there is no verifier; name one by "
                "LLM(path, verifier=…), or choose majority"
            )
        form = prompt or PromptFormat(chat=self._chats)
        with self._turn:
            solver = self._solvers(
                budget,
                strategy or ("beam" if scored and not policy else "best_of_n"),
                tuple(sorted((options or {}).items())),
                policy,
                rule or ("best_of_n_weighted" if scored else "majority"),
                task,
                form,
                (max_tokens, max_step_tokens),
                sampling or SamplingParams(),
                seed,
            )
            return solver.solve(asked)

    async def agenerate(self, prompts: Prompt | Sequence[Prompt], **arguments: Any) -> list[Output]:
        """Does as `generate`, in a thread, so that an event loop goes on meanwhile."""
        return await asyncio.to_thread(self.generate, prompts, **arguments)

    async def asolve(
        self, questions: str | Question | Sequence[str | Question], **arguments: Any
    ) -> list[Solution]:
        """Does as `solve`, in a thread, so that an event loop goes on meanwhile."""
        return await asyncio.to_thread(self.solve, questions, **arguments)

    @functools.cached_property
    def _chats(self) -> bool:
        """Whether the tokenizer has a chat template."""
        try:
            self.tokenizer.chat([{"role": "user", "content": "a"}])
        except UserError:
            return False
        return True

    def _encode(self, prompt: Prompt) -> list[int]:
        if isinstance(prompt, str):
            return self.tokenizer.encode(prompt, add_bos=True)
        if not prompt:
            raise UserError("a prompt is empty: give a text, token ids or messages")
        if all(isinstance(x, int) for x in prompt):
            return [int(x) for x in prompt if isinstance(x, int)]
        return self.tokenizer.chat([message_of(x) for x in prompt])

    def _make_search(
        self, n: int, longest: int, sampling: SamplingParams, stops: tuple[str, ...], marks: Marks
    ) -> Search:
        ends = set(self.tokenizer.eos_ids)
        for text in stops:
            ends |= set(self.tokenizer.containing(text).nonzero()[0].tolist())
        plan = Plan(make_strategy("best_of_n"), n, longest, longest, sampling=sampling)
        plan = dataclasses.replace(plan, thinking=marks and marks.tokens(self.tokenizer))
        parts = shards(self.mesh)
        return Search(
            self.generator,
            self.verifier,
            plan,
            end_tokens=sorted(ends),
            delimiter=Delimiter.of(self.tokenizer, self._delimiter),
            execution=Execution(fitting(self._rows, max(n, 1), parts), mesh=self.mesh),
            adapter=PRMAdapter.of(self.verifier, self.tokenizer, self._delimiter),
        )

    def _output(self, prompt: list[int], found: SearchResult, stops: tuple[str, ...]) -> Output:
        completions = []
        for i, length in enumerate(found.lengths.tolist()):
            tokens, thought = found.tokens[i, :length].tolist(), found.thought_of(i)
            text = self.tokenizer.decode(tokens[thought:], inside=True)
            cut = min((at for stop in stops if (at := text.find(stop)) >= 0), default=None)
            stopped = bool(found.finished[i]) or cut is not None
            completions.append(
                Completion(
                    text=text[:cut],
                    token_ids=tuple(tokens),
                    log_prob=float(found.log_prob[i]),
                    log_probs=None,
                    finish_reason="stop" if stopped else "length",
                    step_scores=found.scores_of(i),
                    reasoning=self.tokenizer.decode(tokens[:thought], inside=True),
                )
            )
        return Output(tuple(prompt), tuple(completions), found.ledger)

    @functools.cached_property
    def _log_probs(self) -> LogProbs:
        return LogProbs(self.generator, self.mesh)

    def _with_log_probs(self, output: Output) -> Output:
        answers = [completion.token_ids for completion in output.completions]
        found = self._log_probs.of(output.prompt_token_ids, answers)
        completions = tuple(
            dataclasses.replace(completion, log_probs=tuple(row))
            for completion, row in zip(output.completions, found, strict=True)
        )
        return dataclasses.replace(output, completions=completions)

    def _make_solver(
        self,
        budget: int,
        strategy: str,
        options: tuple[tuple[str, Any], ...],
        policy: str,
        rule: str,
        task: str,
        prompt: PromptFormat,
        limits: tuple[int, int],
        sampling: SamplingParams,
        seed: int,
    ) -> Solver:
        setup = Setup(
            functools.partial(self._models, policy),
            load_task(task),
            prompt,
            self._delimiter,
            max_new_tokens=limits[0],
            max_step_tokens=limits[1],
            sampling=sampling,
            rows=self._rows,
            execution=Execution(shards(self.mesh), mesh=self.mesh),
            seed=seed,
        )
        follow: Fitted | Entry = Entry(strategy, dict(options))
        if policy:
            follow = Fitted.of(read_policy(policy)).beside(self.path, self.verifier_path)
        return Solver(setup, follow, budget=budget, rule=rule)

    def _models(self, policy: str, entry: Entry) -> Models:
        """Returns the models, which a policy's strategy must not have of its own."""
        for kind, path in (("generator", entry.generator), ("verifier", entry.verifier)):
            if path:
                raise UserError(
                    f"{policy}: {entry.strategy} has a {kind} of its own, {path}; use "
                    "LLM(path, verifier=…) with the models that the policy was fitted with"
                )
        return Models(self.generator, self.tokenizer, self.verifier)
