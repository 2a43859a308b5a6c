"""Generative verifiers: a language model is asked whether a solution is correct.

Its score is the probability of "Yes" against "No" at the verdict (Zhang et al., 2024, Generative
Verifiers: Reward Modeling as Next-Token Prediction), directly or behind thoughts that are drawn.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import jax
from jax.sharding import Mesh

from ttc_jax import assets
from ttc_jax.compute.ledger import Ledger
from ttc_jax.errors import UserError
from ttc_jax.models.tokenizers import Tokenizer, load_tokenizer
from ttc_jax.models.transformer import Transformer
from ttc_jax.models.weights import load_generator
from ttc_jax.verifiers.judge import JudgeModel, LanguageJudge, no_generator
from ttc_jax.verifiers.judge_format import GENERATOR, check_judge, find_judge
from ttc_jax.verifiers.texts import TextVerifier

_log = logging.getLogger(__name__)


class GenerativeVerifier(TextVerifier):
    """Scores solutions by a language model's verdict on each.

    Of a solution that does not fit the model's context, the score is 0.

    Args:
      source: format and model.
      judge: the same beside a generator; None: the model's own, where there is one.
    """

    def __init__(self, source: JudgeModel, judge: LanguageJudge | None = None):
        self.source = source
        self._judge = source.beside(None, None) if judge is None and source.model else judge

    @property
    def name(self) -> str:
        """The path that a config names it by."""
        return self.source.path

    def beside(
        self,
        generator: Transformer | None,
        tokenizer: Tokenizer | None,
        *,
        batch: int = 1,
        mesh: Mesh | None = None,
    ) -> GenerativeVerifier:
        """Returns the verifier of what a generator writes; see `JudgeModel.beside`."""
        judge = self.source.beside(generator, tokenizer, batch=batch, mesh=mesh)
        return GenerativeVerifier(self.source, judge)

    def score_texts(self, question: str, solutions: Sequence[str]) -> list[float]:
        """Returns the score of each solution."""
        return self.read_texts(question, solutions)[0]

    def read_texts(self, question: str, solutions: Sequence[str]) -> tuple[list[float], Ledger]:
        """Returns the score of each solution, and what the judge read and drew for all of them."""
        judge = self._judge
        if judge is None:
            raise no_generator(self.name)
        asked = [judge.form.asked(question, solution) for solution in solutions]
        verdicts = judge.verdicts(asked)
        if any(verdict.score is None for verdict in verdicts):
            _log.warning("a solution does not fit the judge's context: it scores 0")
        scores = [0.0 if verdict.score is None else verdict.score for verdict in verdicts]
        return scores, sum((verdict.cost for verdict in verdicts), Ledger())


def load_judge(
    path: str,
    *,
    selects: bool,
    field: str = "search.judge",
    dtype: jax.typing.DTypeLike = "float32",
    weights: str = "",
    cache: str = "",
    mesh: Mesh | None = None,
) -> JudgeModel | None:
    """Loads a judge; None: `path` names none.

    Args:
      path: "FORMAT:PATH", see `find_judge`.
      selects: whether it chooses from several answers; else it is a verifier.
      field: that holds the path, which errors name.
      dtype, weights, cache, mesh: as for `load_generator`.

    Raises:
      UserError: as `check_judge`, `load_generator` and `load_tokenizer`.
    """
    form = check_judge(path, field, selects=selects)
    if form is None:
        return None
    _, of = find_judge(path)
    if of in GENERATOR:
        return JudgeModel(path, form)
    try:
        folder = assets.locate(of)
        model = load_generator(folder, dtype=dtype, weights=weights, cache=cache, mesh=mesh)
        tokenizer = load_tokenizer(folder, model.config.vocab_size, model=folder)
    except UserError as error:
        raise UserError(f"{field}={path}: {error}") from error
    return JudgeModel(path, form, model, tokenizer)
