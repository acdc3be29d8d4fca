"""The probe `summarization`: documents summarized in less than 150 words, by ROUGE, by how varied the text is, and by a judge.

See `docs/probes.md` for what is scored and why.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from pytest_kick.data_sets.documents import load_documents
from pytest_kick.data_sets.source import DataSource
from pytest_kick.errors import ProbeError
from pytest_kick.identity import content_hash, sampled
from pytest_kick.probes.answers import answer_hash, diversity, shuffled_score
from pytest_kick.probes.answers_probe import LARGEST, work_of
from pytest_kick.probes.assemble import assembled
from pytest_kick.probes.generation import encoded_prompt, generated, room_for
from pytest_kick.probes.judge import Judge, Judgement
from pytest_kick.probes.judge_ratings import Ratings
from pytest_kick.probes.judge_rubrics import SUMMARY_RUBRICS, SUMMARY_SCALE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_kick.data_sets.documents import Document
    from pytest_kick.examples import Array
    from pytest_kick.models.loaded import LoadedModel
    from pytest_kick.probe_spec import ProbeSpec
    from pytest_kick.probes.context import ProbeContext
    from pytest_kick.probes.generation import Generated
    from pytest_kick.result import ProbeScore

ASKS = "Summarize the given story in less than 150 words while preserving high coherence, consistency, fluency, and relevance."
TEMPLATES = {False: ASKS + "\n\n{document}\n\nSummary:", True: ASKS + "\n\n{document}"}
"""Whether the chat template is used -> what is asked: LLM-KICK's instruction, and a cue where no turn ends."""
ROUGE = {"rouge1": "rouge1", "rouge2": "rouge2", "rouge_l": "rougeL"}
"""Metric -> its name in the library."""
LENGTHS = (("short", 400), ("medium", 800))
"""Groups by words of the document: up to so many; beyond them `long`."""
SLACK = 8  # tokens: pieces are cut a little differently where texts meet
LEAD = 3
UNREAD = "the judge gave no score that can be read"
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_BLANK_LINE = re.compile(r"\n\s*\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rouge:
    """Score summaries by the library `rouge-score`, with its stemmer.

    Attributes:
        scorer: of the library.
    """

    scorer: Any

    @classmethod
    def load(cls) -> Rouge:
        """Import the library, which takes a second.

        Raises:
            ProbeError: it is not installed.
        """
        try:
            library: Any = import_module("rouge_score.rouge_scorer")
        except ImportError as error:
            msg = "probe summarization: rouge-score: got no such package, expected it installed. pip install 'pytest-kick[rouge]'"
            raise ProbeError(msg) from error
        return cls(scorer=library.RougeScorer(list(ROUGE.values()), use_stemmer=True))

    def score(self, summary: str, golds: Sequence[str]) -> dict[str, float]:
        """Return the F-measure of each metric, the largest over the gold summaries."""
        found = self.scorer.score_multi(list(golds), summary)
        return {name: float(found[key].fmeasure) for name, key in ROUGE.items()}


class SummarizationProbe:
    """Have documents summarized.

    Attributes:
        name: `summarization`.
        version: of the scoring; a change makes stored scores incomparable.
    """

    name: ClassVar[str] = "summarization"
    version: ClassVar[int] = 1

    def __init__(self, spec: ProbeSpec, documents: Sequence[Document], judge: Judge | None = None) -> None:
        """Take the documents, and who judges; None for nobody.

        Raises:
            ProbeError: the library that computes ROUGE is not installed.
        """
        self._spec, self._documents, self._judge = spec, tuple(documents), judge
        self._chat, self._new_tokens = bool(spec.param("chat")), int(spec.param("max_new_tokens"))
        self._rouge = Rouge.load()
        self._groups = [_group(document.text) for document in self._documents]

    def run(
        self,
        model: LoadedModel,
        *,
        limit: int | None = None,
        seed: int = 0,
        batch_size: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> ProbeScore:
        """Score a model as it is now.

        Args:
            model: cast to the dtype and device of the forward pass.
            limit: number of documents, a sample stratified by length; None for all.
            seed: of that sample, and of the shuffled summaries.
            batch_size: documents per pass; None for 32, or fewer long ones.
            progress: called with the numbers of documents done and asked.

        Raises:
            ProbeError: logits are NaN or infinite, or the judge cannot be asked, or says nothing of too many.
        """
        places = sampled([each.id for each in self._documents], self._groups, limit, seed)
        asked = [self._documents[place] for place in places]
        shown = fitted(model, [each.text for each in asked], self._new_tokens, chat=self._chat)
        template = TEMPLATES[self._chat]
        prompts = [template.format(document=text) for text in shown]
        written = generated(
            model, prompts, max_new_tokens=self._new_tokens, stop=(), batch_size=batch_size, chat=self._chat, progress=progress
        )
        summaries = [text.strip() if self._chat else first_paragraph(text) for text in written.texts]
        cut = sum(len(text) < len(each.text) for text, each in zip(shown, asked, strict=True))
        settings: dict[str, str | int] = {"template": template, "chat": self._chat, "max_new_tokens": written.max_new_tokens}
        work = work_of(written, summaries) | {"documents_cut": float(cut)}
        return self._assemble(asked, summaries, written, seed, settings, work)

    def _assemble(
        self,
        asked: Sequence[Document],
        summaries: Sequence[str],
        written: Generated,
        seed: int,
        settings: dict[str, str | int],
        work: dict[str, float],
    ) -> ProbeScore:
        ratings = self._ratings(asked, summaries)
        kept = ratings.kept(len(asked), f"probe {self._spec.id}", "summaries")
        arrays = {
            **self._rouges(asked, summaries),
            **ratings.arrays(),
            **diversity(summaries),
            "margin": np.clip(written.margins, 0.0, LARGEST).astype(np.float16),
            "predicted": np.asarray([answer_hash(text) for text in summaries], np.int32),
        }
        shuffled = {name: self._shuffled(asked, name, seed) for name in ROUGE}
        named = [each for each, keep in zip(asked, kept, strict=True) if keep]
        score = assembled(
            self._spec,
            version=self.version,
            ids=[each.id for each in named],
            groups=[_group(each.text) for each in named],
            hashes=[content_hash(each.text, each.summary) for each in named],
            arrays={name: values[kept] for name, values in arrays.items()},
            floors={**shuffled, **{rubric.name: float(rubric.low) for rubric in SUMMARY_RUBRICS if ratings.judged}},
            trivial={"shuffled": shuffled["rouge_l"], "lead": self._lead(asked), "empty": 0.0},
            excluded={} if kept.all() else {UNREAD: int((~kept).sum())},
            settings=settings | {"judge": self._judge.model if self._judge else "none"},
            work=work | ratings.work(kept),
        )
        return replace(score, metrics={**score.metrics, **ratings.noise(kept)})

    def _rouges(self, asked: Sequence[Document], summaries: Sequence[str]) -> dict[str, Array]:
        found = [self._rouge.score(text, [each.summary]) for text, each in zip(summaries, asked, strict=True)]
        return {name: np.asarray([scores[name] for scores in found], np.float32) for name in ROUGE}

    def _shuffled(self, asked: Sequence[Document], metric: str, seed: int) -> float:
        """Return what summaries of other documents score: what a text scores that knows nothing of its document."""
        return shuffled_score([[each.summary] for each in asked], lambda text, golds: self._rouge.score(text, golds)[metric], seed)

    def _lead(self, asked: Sequence[Document]) -> float:
        """Return what the first three sentences of the documents score."""
        leads = [" ".join(_SENTENCE.split(each.text)[:LEAD]) for each in asked]
        return float(self._rouges(asked, leads)["rouge_l"].mean())

    def _ratings(self, asked: Sequence[Document], summaries: Sequence[str]) -> Ratings:
        """Return what the judge says; an empty summary has the lowest scores, and nobody is asked."""
        if self._judge is None:
            return Ratings()
        repeats = self._judge.repeats
        judged = {rubric.name: [Judgement(scores=(float(rubric.low),) * repeats, texts=())] * len(asked) for rubric in SUMMARY_RUBRICS}
        places = [place for place, text in enumerate(summaries) if text]
        ratings = [r.rating(document=asked[place].text, summary=summaries[place]) for r in SUMMARY_RUBRICS for place in places]
        found = iter(self._judge.rate(ratings))
        for rubric in SUMMARY_RUBRICS:
            for place in places:
                judged[rubric.name][place] = next(found)
        return Ratings(
            judged=judged, metrics={name: (name,) for name in judged}, model=self._judge.model, repeats=repeats, scale=SUMMARY_SCALE
        )


def make(context: ProbeContext) -> SummarizationProbe:
    """Make the probe.

    Raises:
        DataError: the documents cannot be read.
    """
    documents = load_documents(context.spec.named("documents"), DataSource(directory=context.data, offline=context.offline))
    return SummarizationProbe(context.spec, documents, Judge.from_context(context))


def fitted(model: LoadedModel, documents: Sequence[str], max_new_tokens: int, *, chat: bool) -> list[str]:
    """Return documents as far as the context holds them beside the instruction: news say first what matters, so their ends go."""
    around = len(encoded_prompt(model, TEMPLATES[chat].format(document=""), chat=chat))
    most = max(1, room_for(model, max_new_tokens)[0] - around - SLACK)
    tokenizer: Any = model.tokenizer
    ends = tokenizer(list(documents), add_special_tokens=False, verbose=False, return_offsets_mapping=True)["offset_mapping"]
    return [text[: places[most - 1][1]] if len(places) > most else text for text, places in zip(documents, ends, strict=True)]


def first_paragraph(text: str) -> str:
    """Return what stands before the first blank line: a model without a chat template goes on to the next story."""
    return _BLANK_LINE.split(text.strip(), maxsplit=1)[0].strip()


def _group(text: str) -> str:
    words = len(text.split())
    return next((name for name, most in LENGTHS if words <= most), "long")
