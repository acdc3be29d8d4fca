"""A model that scores answers: asked K times, from the cache where it has been asked before, several questions at a time.

    judge = Judge.from_context(context)          # None where the run has no --kick-judge
    found = judge.rate([Rating(prompt=..., low=1, high=5), ...])
    found[0].score                               # mean of K; None: nothing could be read, the example is missing

`judge_rubrics` has prompts; `judge_scores` what comes back; `judge_ratings` what a probe reports of it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING

from pytest_kick.probes.judge_cache import JudgeCache
from pytest_kick.probes.judge_client import MAX_TOKENS, TEMPERATURE, JudgeClient, check_installed
from pytest_kick.probes.judge_scores import Judgement, Noise, Pair, Rating, noise_of, preference, rating_in

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_kick.probes.context import ProbeContext

    Question = Mapping[str, str | int | float]

__all__ = ["Judge", "Judgement", "Noise", "Pair", "Rating", "noise_of"]

WORKERS = 8


class Judge:
    """Score answers by a model behind an endpoint.

    Attributes:
        model: its name, for the settings of a score.
        repeats: how often each answer is judged.
        asked: questions sent to the endpoint so far; the others came from the cache.
    """

    def __init__(self, client: JudgeClient, cache: JudgeCache, *, repeats: int = 1, workers: int = WORKERS) -> None:
        """Take the way to the judge, where its answers are kept, and how many questions may be open at a time."""
        self.model = client.model
        self.repeats = repeats
        self.asked = 0
        self._client, self._cache, self._workers = client, cache, workers

    @classmethod
    def from_context(cls, context: ProbeContext) -> Judge | None:
        """Return the judge of a run, None where it has none.

        Raises:
            ProbeError: its address cannot be one, or the package that asks it is not installed: known before a model has answered.
        """
        if not context.judge:
            return None
        url, model = context.judge
        client = JudgeClient(url=url.rstrip("/"), model=model)
        check_installed()
        return cls(client, JudgeCache(context.cache / "judge"), repeats=context.judge_repeats)

    def rate(self, items: Sequence[Rating], progress: Callable[[int, int], None] | None = None) -> list[Judgement]:
        """Return a number for each item, as often as `repeats` says.

        Args:
            items: what to ask; equal ones are asked once.
            progress: called with the numbers of questions answered and asked.

        Raises:
            ProbeError: the endpoint cannot be asked. What it answered before is kept.
        """
        texts = self._texts([(item.system, item.prompt) for item in items], progress)
        return [
            Judgement(scores=tuple(rating_in(text, item.low, item.high) for text in said), texts=said)
            for item, said in zip(items, texts, strict=True)
        ]

    def compare(self, pairs: Sequence[Pair], progress: Callable[[int, int], None] | None = None) -> list[Judgement]:
        """Return for each pair 1 where the answer in question wins, 0 where it loses, 0.5 for a tie or where the order decides.

        Args:
            pairs: what to ask, each in both orders.
            progress: called with the numbers of questions answered and asked.

        Raises:
            ProbeError: the endpoint cannot be asked. What it answered before is kept.
        """
        both = [(pair.system, text) for pair in pairs for text in (pair.prompt, pair.swapped)]
        texts = self._texts(both, progress)
        return [
            Judgement(scores=tuple(preference(*both) for both in zip(said, swapped, strict=True)), texts=(*said, *swapped))
            for said, swapped in zip(texts[::2], texts[1::2], strict=True)
        ]

    def _texts(self, prompts: Sequence[tuple[str, str]], progress: Callable[[int, int], None] | None) -> list[tuple[str, ...]]:
        """Return what the judge says to each (system, prompt), once per repeat."""
        wanted = [[self._question(system, prompt, repeat) for repeat in range(self.repeats)] for system, prompt in prompts]
        known: dict[tuple[str, str, int], str] = {}
        missing: dict[tuple[str, str, int], Question] = {}
        for question in (question for row in wanted for question in row):
            text = self._cache.get(question) if _place(question) not in known else None
            if text is not None:
                known[_place(question)] = text
            elif _place(question) not in known:
                missing[_place(question)] = question
        if missing:
            known |= self._answers(missing, progress)
        return [tuple(known[_place(question)] for question in row) for row in wanted]

    def _answers(
        self, missing: Mapping[tuple[str, str, int], Question], progress: Callable[[int, int], None] | None
    ) -> dict[tuple[str, str, int], str]:
        """Ask the endpoint, `workers` questions at a time; the first error ends it."""
        found = {}
        with self._client.opened() as ask, ThreadPoolExecutor(self._workers, thread_name_prefix="kick-judge") as pool:
            futures = {pool.submit(ask, str(q["system"]), str(q["prompt"])): (place, q) for place, q in missing.items()}
            try:
                for future in as_completed(futures):
                    place, question = futures[future]
                    found[place] = future.result()
                    self._cache.put(question, found[place])
                    self.asked += 1
                    if progress:
                        progress(len(found), len(missing))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return found

    def _question(self, system: str, prompt: str, repeat: int) -> Question:
        """Return all that decides an answer."""
        return {
            "endpoint": self._client.url,
            "model": self.model,
            "temperature": TEMPERATURE,
            "max_tokens": MAX_TOKENS,
            "system": system,
            "prompt": prompt,
            "repeat": repeat,
        }


def _place(question: Question) -> tuple[str, str, int]:
    return str(question["system"]), str(question["prompt"]), int(question["repeat"])
