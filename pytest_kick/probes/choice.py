"""Multiple choice: each option's log-likelihood after the prompt, and whether gold is the likeliest.

An option is scored as the text that follows the prompt after one space, never as a letter read off a generated text: a model
that generates another word than a letter still ranks the letters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pytest_kick.errors import ProbeError
from pytest_kick.probes.likelihood import Likelihood, encode_pairs
from pytest_kick.probes.pseudo import PseudoLikelihood, PseudoScored

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from pytest_kick.examples import Array
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probes.likelihood import Scored
    from pytest_kick.probes.tokens import Ids

    Pairs = tuple[tuple[Ids, Ids], ...]

NORMS = ("sum", "bytes")
UNIFORM = 1e-4  # nats per token: nearer to ln(vocabulary) than this on every option, the model says nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Hold one question with its options.

    Attributes:
        id: unique.
        group: subject or category.
        prompt: what stands before the option; a space at its end goes to the option.
        options: texts that may follow, at least two, no two alike.
        gold: place of the right one among them.
    """

    id: str
    group: str
    prompt: str
    options: tuple[str, ...]
    gold: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """Hold what a model says of the options of questions; options in one line, question after question.

    Attributes:
        questions: `(n,)` questions.
        logprobs: `(m,)` float64, log-probability of each option after its prompt, in nats.
        bytes: `(m,)` float64, UTF-8 bytes of each option.
        greedy: `(m,)` bool, each token of the option is the likeliest one.
        silent: `(n,)` bool: every option has the probability of tokens drawn at random, so that its length alone would decide.
        truncated: `(n,)` bool: the beginning of the prompt was cut off, as the model's context is too short.
        work: positions computed and the like, as `ProbeScore.work` has them, the questions that were truncated among them.
    """

    questions: Sequence[Question]
    logprobs: NDArray[np.float64]
    bytes: NDArray[np.float64]
    greedy: NDArray[np.bool_]
    silent: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    work: Mapping[str, float]

    def outcomes(self, norm: str = "sum") -> dict[str, Array]:
        """Return arrays of length n.

        `acc` and `acc_norm`: gold is strictly likelier than every other option, by its sum and per byte. `margin`, `predicted` and
        `gold_logprob` are of `norm`: gold minus the best other one, in nats (per byte); the place of the likeliest option, -1
        where there is no single one.
        """
        by_norm = {"sum": self.logprobs, "bytes": self.logprobs / self.bytes}
        margins = {name: self._margin(values) for name, values in by_norm.items()}
        best = self._predicted(by_norm[norm])
        first = _first(self.questions) + self._gold()
        return {
            "acc": margins["sum"] > 0,
            "acc_norm": margins["bytes"] > 0,
            "margin": margins[norm].astype(np.float32),
            "predicted": best.astype(np.int32),
            "gold_logprob": by_norm[norm][first].astype(np.float32),
        }

    def any_greedy(self) -> NDArray[np.bool_]:
        """Return `(n,)` bool: left to itself, the model would go on with one of the options."""
        counts = np.add.reduceat(self.greedy, _first(self.questions), dtype=np.int64)
        return (counts > 0) & ~self.silent

    def _gold(self) -> NDArray[np.int64]:
        return np.asarray([question.gold for question in self.questions], np.int64)

    def _margin(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        first, gold = _first(self.questions), self._gold()
        others = values.copy()
        others[first + gold] = -np.inf
        margin = values[first + gold] - np.maximum.reduceat(others, first)
        return np.asarray(np.where(self.silent, np.minimum(margin, 0.0), margin), np.float64)

    def _predicted(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        first = _first(self.questions)
        owner = np.repeat(np.arange(len(first)), np.diff([*first, len(values)]))
        best = np.flatnonzero(values == np.maximum.reduceat(values, first)[owner])
        found = np.full(len(first), -1, np.int64)
        found[owner[best]] = best - first[owner[best]]
        alone = np.bincount(owner[best], minlength=len(first)) == 1
        return np.where(alone & ~self.silent, found, -1)


def encode(model: LoadedModel, questions: Sequence[Question]) -> list[Pairs]:
    """Return for each question the context and target ids of each of its options; of encoders the targets alone."""
    if model.family == "encoder":
        texts = [f" {option}" for question in questions for option in question.options]
        flat = iter(model.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"])
        return [tuple(((), tuple(next(flat))) for _ in question.options) for question in questions]
    asked = [(question.prompt, _continuation(question.prompt, option)) for question in questions for option in question.options]
    cut = _prompted if model.family == "decoder" and _closes(model) else encode_pairs
    found = iter(cut(model, asked))
    return [_shared([next(found) for _ in question.options]) for question in questions]


def askable(model: LoadedModel, pairs: Sequence[Pairs]) -> NDArray[np.bool_]:
    """Return `(n,)` bool: the tokenizer has a token for every part of every option, and no two options are cut alike."""
    unknown = model.tokenizer.unk_token_id
    targets = [[target for _, target in options] for options in pairs]
    known = [all(target and unknown not in target for target in options) for options in targets]
    return np.asarray([able and len(set(options)) == len(options) for able, options in zip(known, targets, strict=True)], np.bool_)


def ask(
    model: LoadedModel,
    questions: Sequence[Question],
    pairs: Sequence[Pairs] | None = None,
    *,
    batch_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """Score every option of every question.

    Args:
        model: cast to the dtype and device of the forward pass; encoders are asked by pseudo-log-likelihood.
        questions: at least one, all askable.
        pairs: what `encode` returned for them, where it has been called before.
        batch_size: options per pass; None for the engine's own.
        progress: called with the parts of the work done and asked.

    Raises:
        ProbeError: logits are NaN or infinite, there is no question, or an option has no tokens.
    """
    where = f"probe: model {model.name!r}"
    if not questions:
        msg = f"{where}: questions: got none, expected at least one. Raise the limit."
        raise ProbeError(msg)
    scored: Scored | PseudoScored
    engine: Likelihood | None = None
    if model.family == "encoder":
        texts, spans = statements(questions)
        scored = PseudoLikelihood(model).score(texts, spans, batch_size=batch_size, progress=progress)
    else:
        flat = [pair for options in pairs or encode(model, questions) for pair in options]
        engine = Likelihood(model)
        scored = engine.score(flat, batch_size=batch_size, progress=progress)
    if not scored.n_tokens.all():
        msg = f"{where}: options: got one without a token, expected a text for each. Correct the question."
        raise ProbeError(msg)
    if not np.isfinite(scored.logprob).all():
        msg = f"{where}: logits: got NaN or infinite ones, expected finite ones. The compression or the dtype broke it."
        raise ProbeError(msg)
    first = _first(questions)
    truncated = np.logical_or.reduceat(scored.truncated, first)
    away = np.abs(scored.logprob / scored.n_tokens + math.log(model.module.config.get_text_config().vocab_size))
    return Scores(
        questions=questions,
        logprobs=scored.logprob,
        bytes=np.asarray([len(option.encode()) for question in questions for option in question.options], np.float64),
        greedy=scored.greedy,
        silent=np.maximum.reduceat(away, first) < UNIFORM,
        truncated=truncated,
        work=_work(scored, engine) | {"truncated": float(truncated.sum())},
    )


def score_questions(
    model: LoadedModel,
    questions: Sequence[Question],
    *,
    norm: str = "sum",
    batch_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Array]:
    """Return `acc`, `acc_norm`, `margin`, `predicted` and `gold_logprob` of questions; see `Scores.outcomes` and `ask`."""
    return ask(model, questions, batch_size=batch_size, progress=progress).outcomes(norm)


def trivial_of(questions: Sequence[Question], among: Sequence[Question] = (), *, macro: bool = False) -> dict[str, float]:
    """Return what needs no knowledge: `chance`, and `majority`: always the place that is right most often.

    Args:
        questions: those that are scored.
        among: those in which places are counted, so that a small sample does not flatter the majority; the same where there are none.
        macro: each group counts alike.
    """
    place = int(np.bincount([question.gold for question in among or questions]).argmax())
    _, group, sizes = np.unique([question.group for question in questions], return_inverse=True, return_counts=True)
    weights = 1 / sizes[group] if macro else np.ones(len(questions))
    return {
        "chance": float(np.average([1 / len(question.options) for question in questions], weights=weights)),
        "majority": float(np.average([question.gold == place for question in questions], weights=weights)),
    }


def floors_of(questions: Sequence[Question], among: Sequence[Question] = ()) -> dict[str, float]:
    """Return for `acc`, `acc_norm` and `macro_acc` what knowing nothing scores; see `trivial_of`."""
    floor, macro = (max(trivial_of(questions, among, macro=way).values()) for way in (False, True))
    return {"acc": floor, "acc_norm": floor, "macro_acc": macro}


def _first(questions: Sequence[Question]) -> NDArray[np.int64]:
    """Return `(n,)` the place of each question's first option."""
    counts = np.asarray([len(question.options) for question in questions], np.int64)
    return np.cumsum(counts) - counts


def _work(scored: Scored | PseudoScored, engine: Likelihood | None) -> dict[str, float]:
    run = {"scored_positions": float(scored.n_tokens.sum())}
    if engine is None:
        assert isinstance(scored, PseudoScored)
        return run | {"tokens": float(scored.tokens), "passes": float(scored.passes)}
    return run | {"tokens": float(engine.work.tokens), "padding": float(engine.work.padding), "passes": float(engine.work.passes)}


def _continuation(prompt: str, option: str) -> str:
    return option if prompt[-1:].isspace() else f" {option}"


def _closes(model: LoadedModel) -> bool:
    """Return whether the tokenizer ends each text with a special token, which is no part of a text that goes on."""
    ids = model.tokenizer.encode("a")
    return len(ids) > 1 and ids[-1] in model.tokenizer.all_special_ids


def _prompted(model: LoadedModel, asked: Sequence[tuple[str, str]]) -> list[tuple[Ids, Ids]]:
    """Return what `encode_pairs` does, without the tokens that end a text: lm-eval's way would lose the beginning of each target."""
    found = []
    for prompt, continuation in asked:
        bare = prompt.rstrip()
        context, whole = model.prompt_ids(bare), model.prompt_ids(prompt + continuation)
        found.append((tuple(context), tuple(whole[len(context) :])))
    return found


def _shared(pairs: Sequence[tuple[Ids, Ids]]) -> Pairs:
    """Return the pairs of a question, their context kept once where it is one."""
    context = pairs[0][0]
    return tuple((context if pair[0] == context else pair[0], pair[1]) for pair in pairs)


def statements(questions: Sequence[Question]) -> tuple[list[str], list[tuple[int, int]]]:
    """Return each prompt with each option as a text, and where the option stands in it."""
    texts, spans = [], []
    for question in questions:
        for option in question.options:
            text = question.prompt + _continuation(question.prompt, option)
            texts.append(text)
            spans.append((len(text) - len(option), len(text)))
    return texts, spans
