"""Rank the answers of a question by the probability of the whole statement: pseudo-log-likelihood or log-likelihood.

What all statements of a question share at their beginning gives each the same share of its probability, so that decoders are only
asked from the first token on in which two of them differ.
Source: Wiland et al. 2024, BEAR, arXiv 2404.04113.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_kick.errors import ProbeError
from pytest_kick.probes.likelihood import Likelihood
from pytest_kick.probes.pseudo import PseudoLikelihood
from pytest_kick.probes.ranking import CUTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_kick.examples import Array
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probes.trie import Ints

    Ids = tuple[int, ...]
    Progress = Callable[[int, int], None]

CHUNK = 4096  # statements held as tokens at a time
EVEN = 1e-4  # nats per token from a uniform guess: less is none


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """Hold one question: the text before and after its answer as it stands, spaces too, the answers, and which one is right."""

    before: str
    after: str
    answers: tuple[str, ...]
    gold: int

    def texts(self) -> list[str]:
        """Return the statements; a closing point keeps an answer from being the beginning of another one."""
        after = self.after if self.after.strip() else "."
        return [f"{self.before}{answer}{after}" for answer in self.answers]


class StatementRanker:
    """Rank with one encoder or decoder, as its weights are now.

    Attributes:
        truncated: statements that lost their beginning to the model's window.
        tokens: that were scored.
    """

    def __init__(self, model: LoadedModel) -> None:
        """Take a model, cast to the dtype and device of the forward pass.

        Raises:
            ProbeError: it is an encoder-decoder, which is asked at its sentinel.
        """
        if model.family == "encoder-decoder":
            msg = f"statements: model {model.name!r}: got an encoder-decoder, expected another family. Ask it at its sentinel."
            raise ProbeError(msg)
        self._model = model
        self._pseudo = PseudoLikelihood(model) if model.family == "encoder" else None
        self._likelihood = None if self._pseudo else Likelihood(model)
        self._uniform = float(np.log(int(model.module.config.get_text_config().vocab_size)))
        self.truncated = self.tokens = 0

    def rank(self, asked: Sequence[Statement], *, batch_size: int | None = None, progress: Progress | None = None) -> dict[str, Array]:
        """Return `p1`, `p5`, `p10`, `gold_logprob`, `margin` and `predicted`, `(n,)` each; equal logits are never right.

        Args:
            asked: n questions of at least two answers.
            batch_size: sequences per pass; None for the engine's choice.
            progress: called with the numbers of questions done and asked.
        """
        parts: list[dict[str, Array]] = []
        begin = 0
        while begin < len(asked):
            end, held = begin + 1, len(asked[begin].answers)
            while end < len(asked) and held + len(asked[end].answers) <= CHUNK:
                held, end = held + len(asked[end].answers), end + 1
            parts.append(self._chunk(asked[begin:end], batch_size))
            begin = end
            if progress:
                progress(end, len(asked))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}

    def _chunk(self, asked: Sequence[Statement], batch_size: int | None) -> dict[str, Array]:
        texts = [text for question in asked for text in question.texts()]
        sizes = np.asarray([len(question.answers) for question in asked], np.int64)
        if self._pseudo:
            pseudo = self._pseudo.score(texts, batch_size=batch_size)
            logprob, n_tokens, truncated = pseudo.logprob, pseudo.n_tokens, pseudo.truncated
        else:
            assert self._likelihood is not None
            scored = self._likelihood.score(pairs_of(self._model, texts, sizes), batch_size=batch_size)
            logprob, n_tokens, truncated = scored.logprob, scored.n_tokens, scored.truncated
        self.truncated += int(truncated.sum())
        self.tokens += int(n_tokens.sum())
        even = np.abs(logprob + n_tokens * self._uniform) <= EVEN * np.maximum(n_tokens, 1)
        return outcomes(np.split(logprob, np.cumsum(sizes)[:-1]), np.split(even, np.cumsum(sizes)[:-1]), [q.gold for q in asked])


def pairs_of(model: LoadedModel, texts: Sequence[str], sizes: Ints) -> list[tuple[Ids, Ids]]:
    """Return what each question's statements share, and the rest of each, in token ids of a decoder.

    Args:
        model: whose tokenizer is used.
        texts: statements, question after question.
        sizes: how many of them each question has.
    """
    tokenizer: Any = model.tokenizer
    found: list[list[int]] = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    opening = tuple(model.prompt_ids(""))
    # A text that nothing goes before is opened as lm-evaluation-harness opens it.
    opener = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    pairs, begin = [], 0
    for size in sizes:
        rows = found[begin : begin + size]
        shortest = min(map(len, rows)) - 1  # something is left of each
        shared = next((place for place, column in enumerate(zip(*rows, strict=False)) if len(set(column)) > 1), shortest)
        shared = min(shared, shortest)
        context = (*opening, *rows[0][:shared]) or (() if opener is None else (opener,))
        # Without any opening token, the first token of each opens it, as in lm-evaluation-harness.
        pairs += [(context, tuple(row[shared:])) if context else (tuple(row[:1]), tuple(row[1:])) for row in rows]
        begin += size
    return pairs


def outcomes(scores: Sequence[Array], even: Sequence[Array], gold: Sequence[int]) -> dict[str, Array]:
    """Return the outcomes of n questions from the log-probabilities of their answers.

    Args:
        scores: of each question's answers.
        even: whether each is that of a uniform guess.
        gold: which answer is right.
    """
    found: dict[str, list[float]] = {name: [] for name in ("rank", "gold_logprob", "margin", "predicted")}
    for values, flat, right in zip(scores, even, gold, strict=True):
        others = np.delete(values, right)
        constant = bool(flat.all())
        found["rank"].append(len(values) + CUTS[-1] if constant else 1 + int((others >= values[right]).sum()))
        found["gold_logprob"].append(values[right])
        margin = values[right] - others.max()
        found["margin"].append(min(margin, 0.0) if constant else margin)
        found["predicted"].append(-1 if constant else int(values.argmax()))
    ranks = np.asarray(found["rank"])
    return {f"p{cut}": ranks <= cut for cut in CUTS} | {
        "gold_logprob": np.asarray(found["gold_logprob"], np.float32),
        "margin": np.asarray(found["margin"], np.float32),
        "predicted": np.asarray(found["predicted"], np.int32),
    }
