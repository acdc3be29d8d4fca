"""Cloze sentences as token ids, and the rank of a gold token at their blank: at a mask, at a sentinel, or as the next token."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pytest_kick.calibration.prepare import max_length
from pytest_kick.data_sets.lama import BLANK
from pytest_kick.errors import ProbeError
from pytest_kick.facts import CLOSING
from pytest_kick.probes.forward import BLOCK_LOGITS
from pytest_kick.probes.head import ScoredHead
from pytest_kick.probes.tokens import Asker, MaskAsker, SentinelAsker, asker_for
from pytest_kick.probes.trie import Ints, pad_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_kick.data_sets.lama import Cloze
    from pytest_kick.examples import Array
    from pytest_kick.models.loaded import LoadedModel

    Ids = tuple[int, ...]

BATCH_SIZE = 256
CUTS = (1, 5, 10)
STEM = "a"  # a word before the answer, so that it is cut as it is inside of a sentence


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Blanks:
    """Hold n facts that a tokenizer can express.

    Attributes:
        chosen: `(n,)` index of each fact.
        prompts: token ids of each sentence.
        marks: places in the prompt after, or at, which the answer is read: one for each mask.
        gold: `(n, A)` accepted tokens, -1 where there are fewer.
        among: `(C,)` ascending ids of the tokens that are ranked; empty for the whole vocabulary.
        prefix: what a decoder is given before the answer, where the prompt goes to an encoder.
        excluded: reason -> number of facts left out.
        convention: `bos`, `raw`, `sentinel` or `mask`.
    """

    chosen: Ints
    prompts: tuple[Ids, ...]
    marks: tuple[Ids, ...]
    gold: Ints
    among: Ints
    prefix: Ids
    excluded: dict[str, int]
    convention: str


def single_tokens(asker: Asker, words: Sequence[str]) -> Ints:
    """Return `(n,)` the token of each word inside of a sentence, -1 where it has several or the tokenizer does not know it."""
    found = asker.each([(STEM, word, "") for word in words])
    return np.asarray([ids[0] if ids is not None and len(ids) == 1 else -1 for ids in found], np.int64)


def prepare_clozes(facts: Sequence[Cloze], words: Sequence[str], model: LoadedModel, *, every_mask: bool = False) -> Blanks:
    """Turn facts into token ids; those are kept whose object is one token, and one of the tokens that are ranked.

    Args:
        facts: to ask.
        words: that are ranked, those of them that are one token; empty for the whole vocabulary.
        model: whose tokenizer and family decide how.
        every_mask: read the answer at every mask of a sentence; a token counts in any case, and objects of several tokens stay.

    Raises:
        ProbeError: the tokenizer lacks what the family needs, or not one fact can be asked.
    """
    asker = asker_for(model)
    single = single_tokens(asker, words)
    among = np.unique(single[single >= 0])
    ranked = set(among.tolist())
    tokens = single_tokens(asker, [fact.answer for fact in facts])
    forms = _Forms(model) if every_mask else None
    limit, reasons = max_length(model), Counter[str]()
    chosen, prompts, marks, gold = [], [], [], []
    for number, fact in enumerate(facts):
        accepted = forms.of(fact.answer) if forms else (int(tokens[number]),)
        if not forms and (tokens[number] < 0 or (len(words) and int(tokens[number]) not in ranked)):
            reasons["object of several tokens" if tokens[number] < 0 else "object outside of the common vocabulary"] += 1
            continue
        prompt, places, reason = _prompt(asker, model, fact.sentence)
        reason = reason or ("longer than the context" if len(prompt) > limit else "")
        if reason:
            reasons[reason] += 1
            continue
        chosen.append(number)
        prompts.append(prompt)
        marks.append(places if every_mask else places[:1])
        gold.append(accepted)
    if not chosen or len(ranked) == 1:
        msg = f"probe lama: model {model.name!r}: facts: got none that can be asked ({dict(reasons)}), expected some. Use other facts."
        raise ProbeError(msg)
    return Blanks(
        chosen=np.asarray(chosen, np.int64),
        prompts=tuple(prompts),
        marks=tuple(marks),
        gold=pad_rows(gold, -1),
        among=among,
        prefix=asker.prefix,
        excluded=dict(sorted(reasons.items())),
        convention=asker.convention,
    )


class _Forms:
    """Find the tokens that read as a word, in any case: `Paris` and ` paris` do."""

    def __init__(self, model: LoadedModel) -> None:
        tokenizer: Any = model.tokenizer
        size = min(len(tokenizer), int(model.module.config.get_text_config().vocab_size))
        self._found: dict[str, list[int]] = {}
        for token, text in enumerate(tokenizer.batch_decode([[token] for token in range(size)], clean_up_tokenization_spaces=False)):
            self._found.setdefault(text.strip().lower(), []).append(token)

    def of(self, word: str) -> Ids:
        return tuple(self._found.get(word.strip().lower(), ()))


def _prompt(asker: Asker, model: LoadedModel, sentence: str) -> tuple[Ids, Ids, str]:
    """Return the ids of a sentence, where its answer is read, and why it cannot be asked, if so."""
    tokenizer: Any = model.tokenizer
    if isinstance(asker, MaskAsker):
        ids = tuple(tokenizer.encode(sentence.replace(BLANK, tokenizer.mask_token), verbose=False))
        places = tuple(place for place, token in enumerate(ids) if token == tokenizer.mask_token_id)
        return ids, places, "" if places else "no mask"
    before, _, after = sentence.partition(BLANK)
    if BLANK in after:
        return (), (), "several masks"
    if not isinstance(asker, SentinelAsker) and set(after) - CLOSING - {" "}:
        return (), (), "answer not last"
    found = asker.prompt(before.rstrip(" "), after)
    if found is None:
        return (), (), "unknown token"
    return found[0], (found[1],), "" if found[0] else "nothing before the answer"


class ClozeRanker:
    """Rank gold tokens with one model, as its weights are now."""

    def __init__(self, model: LoadedModel, blanks: Blanks) -> None:
        """Take a model, cast to the dtype and device of the forward pass, and what is asked."""
        self._model, self._blanks = model, blanks
        self._head = ScoredHead(model)
        self._among = torch.from_numpy(blanks.among).to(model.device)
        self.tokens = self.passes = 0

    @torch.inference_mode()
    def rank(self, numbers: Ints, batch_size: int, progress: Callable[[int, int], None] | None = None) -> dict[str, Array]:
        """Return arrays of length n for facts `(n,)` of the blanks: what stands at the first mask, and shares over all masks.

        Raises:
            ProbeError: logits are NaN or infinite.
        """
        counts = np.asarray([len(self._blanks.marks[number]) for number in numbers], np.int64)
        first = np.cumsum(counts) - counts
        found: dict[str, Array] = {}
        done = 0
        for rows, arrays in self._batches(numbers, batch_size):
            places = np.concatenate([first[row] + np.arange(counts[row]) for row in rows])
            for name, values in arrays.items():
                found.setdefault(name, np.zeros(int(counts.sum()), values.dtype))[places] = values
            done += len(rows)
            if progress:
                progress(done, len(numbers))
        arrays = {name: values[first] for name, values in found.items()}
        for cut in CUTS:
            right = found["rank"] <= cut
            arrays[f"p{cut}"] = right[first]
            arrays[f"position_p{cut}"] = (np.add.reduceat(right.astype(np.float64), first) / counts).astype(np.float32)
        return arrays | {"positions": counts.astype(np.float32)}

    def _batches(self, numbers: Ints, batch_size: int) -> Iterator[tuple[Ints, dict[str, Array]]]:
        """Yield which of the facts a pass asks, and arrays over their marks."""
        lengths = np.asarray([len(self._blanks.prompts[number]) for number in numbers], np.int64)
        order = np.argsort(lengths, kind="stable")
        vocabulary = int(self._model.module.config.get_text_config().vocab_size)
        size = max(1, min(batch_size, BLOCK_LOGITS // vocabulary))
        for begin in range(0, len(order), size):
            rows = order[begin : begin + size]
            chosen = numbers[rows]
            marks = [self._blanks.marks[number] for number in chosen]
            logits = self._run([self._blanks.prompts[number] for number in chosen], marks)
            gold = np.repeat(self._blanks.gold[chosen], [len(places) for places in marks], axis=0)
            yield rows, self._read(logits, torch.from_numpy(gold).to(logits.device))

    def _run(self, prompts: Sequence[Ids], marks: Sequence[Ids]) -> torch.Tensor:
        ids = pad_rows(prompts, 0 if self._model.tokenizer.pad_token_id is None else int(self._model.tokenizer.pad_token_id))
        lengths = np.asarray([len(prompt) for prompt in prompts], np.int64)
        inputs: dict[str, Any] = {
            "input_ids": self._tensor(ids),
            "attention_mask": self._tensor(np.arange(ids.shape[1]) < lengths[:, None]),
        }
        row = np.repeat(np.arange(len(prompts)), [len(places) for places in marks])
        scored = row * ids.shape[1] + np.concatenate([np.asarray(places, np.int64) for places in marks])
        if self._blanks.prefix:
            prefix = np.tile(np.asarray(self._blanks.prefix, np.int64), (len(prompts), 1))
            inputs |= {"decoder_input_ids": self._tensor(prefix)}
            scored = (row + 1) * prefix.shape[1] - 1
        if self._model.family != "encoder":
            inputs |= {"use_cache": False}
        self.tokens, self.passes = self.tokens + int(lengths.sum()), self.passes + 1
        return self._head.run(self._tensor(scored), **inputs)[0]

    def _read(self, logits: torch.Tensor, gold: torch.Tensor) -> dict[str, Array]:
        """Return arrays over rows of logits `(M, vocabulary)`; accepted tokens `(M, A)` stand aside from the others."""
        logprobs = torch.log_softmax(logits, -1, out=logits)
        least, most = torch.aminmax(logprobs, dim=-1)
        if not bool(torch.isfinite(least).all()):
            msg = f"probe lama: model {self._model.name!r}: got NaN or infinite logits, expected finite ones."
            msg += " The compression or the dtype broke it."
            raise ProbeError(msg)
        gold = torch.where(gold < 0, gold[:, :1], gold)  # fill up with the first one; all are -1 where no token is accepted
        own = logprobs.gather(1, gold.clamp_min(0))
        values = own.masked_fill(gold < 0, -torch.inf)
        best = torch.maximum(values.amax(1), least - 1)  # where no token is accepted: below all others
        logprobs.scatter_(1, gold.clamp_min(0), own.masked_fill(gold >= 0, -torch.inf))
        others = logprobs[:, self._among] if len(self._among) else logprobs
        beside, place = others.max(1)
        rank = (others >= best[:, None]).sum(1) + 1
        token = self._among[place] if len(self._among) else place
        predicted = torch.where(best > beside, gold.gather(1, values.argmax(1)[:, None])[:, 0], token)
        predicted = torch.where(least == most, -1, predicted)
        return {
            "rank": rank.cpu().numpy().astype(np.int32),
            "gold_logprob": best.float().cpu().numpy(),
            "margin": (best - beside).float().cpu().numpy(),
            "predicted": predicted.cpu().numpy().astype(np.int32),
        }

    def _tensor(self, values: Array) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, np.int64)).to(self._model.device)
