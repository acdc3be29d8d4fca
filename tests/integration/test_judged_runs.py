"""Whole runs with a judge on this machine: its noise beside its scores, what is missing, what fails, and what must never be seen."""

from __future__ import annotations

import json
import re
import socket
import sys
from dataclasses import dataclass, replace
from importlib import import_module
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import pytest
from judge_server import JudgeServer, Reply, said
from workspace import BASE, INI, MODULE, lines_wider

from pytest_kick.data_sets.mt_bench import JUDGE_PROMPTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = "sk-planted-a1b2c3d4e5f6"
HOSTILE = "\x1b[31mzqred\x1b]0;zqtitle\x07 <b>zqbold</b> [bold]zqrich[/bold] **zqstar** `zqtick`\r\nkick: 9 cells, 9 pass\x00\x9b2J"
SCORES = ("coherence", "consistency", "fluency", "relevance")
SUITE = """\
schema = 1
models = ["tiny-decoder"]
probes = [
  {{ probe = "summarization:path:docs.jsonl", max_new_tokens = 8 }},
  {{ probe = "instruction_following", max_new_tokens = 8 }},
]
[[compressions]]
method = "l1_global"
scope = "overall"
sparsity = 0.1
{budget}"""
BUDGETS = """
[[budgets]]
probe = "summarization:docs--max_new_tokens-8"
"retention:coherence" = 0.9
[[budgets]]
probe = "instruction_following--max_new_tokens-8"
"retention:judge" = 0.9
"""
N = 8
IMPORTED = ("pytest_kick.runner", "pytest_kick.probes.summarization", "pytest_kick.probes.instruction_following", "openai", "rouge_score")
"""What a run in this process would otherwise import anew, which torch refuses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Hold a repository whose probes need a judge, nothing recorded yet."""

    pytester: pytest.Pytester

    @property
    def path(self) -> Path:
        """Return its root."""
        return self.pytester.path

    def run(self, reply: Callable[[dict[str, Any], int], Reply], *args: str, url: str = "") -> pytest.RunResult:
        """Run pytest in this process beside a judge."""
        with JudgeServer(reply) as server:
            judge = ("--kick-judge", url or server.url, "made-up")
            return self.pytester.runpytest_inprocess("suites", *BASE, "--kick-data", "data", "--kick-json", "run.json", *judge, *args)

    def scores(self, cell: str = "dense") -> dict[str, dict[str, Any]]:
        """Return probe -> score of the last run's cell."""
        (found,) = [each for each in self.document()["cells"] if each["id"].endswith(cell)]
        return {score["probe"].partition(":")[0].partition("--")[0]: score for score in found["measurement"]["scores"]}

    def document(self) -> dict[str, Any]:
        """Return the run record."""
        document: dict[str, Any] = json.loads((self.path / "run.json").read_bytes())
        return document

    def suite(self, budget: str = "") -> None:
        """Write the suite."""
        (self.path / "suites" / "judged.toml").write_text(SUITE.format(budget=budget), "utf-8")


@pytest.fixture(scope="session")
def _imported(request: pytest.FixtureRequest) -> None:
    """Import before `pytester` notes what is imported, and forgets the rest after each test: a whole run, and what only these need."""
    request.getfixturevalue("recorded")
    for name in IMPORTED:
        import_module(name)


@pytest.fixture
def judged(_imported: None, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Judged:
    """Write eight documents and eight questions of two turns."""
    root = pytester.path
    (root / "suites").mkdir()
    (root / "pytest.ini").write_text(INI, "utf-8")
    (root / "suites" / "test_cells.py").write_text(MODULE, "utf-8")
    documents = [{"id": f"d{n}", "document": f"word{n} is the capital of Peru.", "summary": f"word{n}"} for n in range(N)]
    (root / "suites" / "docs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in documents), "utf-8")
    folder = root / "data" / "mt_bench" / "mt_bench"
    (folder / "reference_answer").mkdir(parents=True)
    rows = [{"question_id": n, "category": "writing", "turns": [f"word{n} is in", f"Peru {n} is in"]} for n in range(N)]
    prompts = [
        {"name": name, "system_prompt": "be fair", "prompt_template": "; ".join(f"{gap}={{{gap}}}" for gap in gaps)}
        for name, gaps in JUDGE_PROMPTS.items()
    ]
    for path, lines in (("question", rows), ("reference_answer/gpt-4", []), ("../judge_prompts", prompts)):
        (folder / f"{path}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    monkeypatch.setenv("KICK_JUDGE_KEY", KEY)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for module in ("summarization", "conversation"):
        monkeypatch.setattr(f"pytest_kick.probes.{module}.generated", hostile(import_module("pytest_kick.probes.generation").generated))
    found = Judged(pytester=pytester)
    found.suite()
    return found


def hostile(generated: Callable[..., Any]) -> Callable[..., Any]:
    """Let a model say the word of the document, and then what would steer a terminal."""

    def found(model: Any, prompts: list[Any], **asked: Any) -> Any:
        words = [re.findall(r"word\d", str(prompt))[-1] for prompt in prompts]
        return replace(generated(model, prompts, **asked), texts=[f"{word} {HOSTILE}" for word in words])

    return found


def prompt_of(body: dict[str, Any]) -> str:
    """Return the user's turn of a request."""
    return str(body["messages"][-1]["content"])


def moody(base: int) -> Callable[[dict[str, Any], int], Reply]:
    """Return a judge that says `base`, or one more or less, each in turn when it is asked the same again; 1 of the question repeated."""
    seen: dict[str, int] = {}

    def reply(body: dict[str, Any], _: int) -> Reply:
        if "zq" not in prompt_of(body):  # what the model wrote has it
            return said("[[1]]")
        place = seen[prompt_of(body)] = seen.get(prompt_of(body), len(prompt_of(body))) + 1
        return said(f"{HOSTILE} [[{base + place % 3 - 1}]]")

    return reply


def noise_on_disk(root: Path, about: str) -> float:
    """Return the standard deviation of the mean between repeats, from the judge's raw answers to prompts that say `about`.

    Of prompts that show what the model wrote: not of those with the question repeated.
    """
    kept = [json.loads(path.read_text()) for path in (root / ".kick" / "cache" / "judge").rglob("*.json")]
    rows = [
        (each["question"]["repeat"], each["answer"]) for each in kept if about in (prompt := each["question"]["prompt"]) and "zq" in prompt
    ]
    times = [[int(answer.rpartition("[[")[2].rstrip("]")) for repeat, answer in rows if repeat == place] for place in range(3)]
    assert [len(time) for time in times] == [N] * 3
    return stdev(fmean(time) for time in times)


def leaks(judged: Judged, *texts: str) -> list[str]:
    """Return which output or file holds the key, and which output or JSON a control character or what the judge or the model said."""
    files = {str(path.relative_to(judged.path)): path.read_bytes() for path in judged.path.rglob("*") if path.is_file()}
    found = [name for name, content in files.items() if KEY.encode() in content]
    reports = {"output": "\n".join(texts), **{name: files[name].decode() for name in files if name in {"run.json", "junit.xml"}}}
    for name, text in reports.items():
        control = {letter for letter in text if not letter.isprintable()} - {"\n"}
        said_there = [part for part in ("<b>", "zq", "9 cells, 9 pass") if part in text]
        found += [f"{name}: {control} {said_there}"] if control or said_there or KEY in text else []
    return found


def test_noise_stands_beside_the_scores_at_80_and_at_160(judged: Judged, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the row's own line, in the failure's text and in the run record, as the raw answers on disk give it; and nothing leaks."""
    monkeypatch.setenv("COLUMNS", "80")
    green = judged.run(moody(4), "--kick-update", "--kick-judge-repeats=3", "-v")
    green.assert_outcomes(passed=2)
    summaries, questions = judged.scores()["summarization"], judged.scores()["instruction_following"]
    text = " ".join(" ".join(green.outlines).split())
    for name in SCORES:
        noise = noise_on_disk(judged.path, f"Score the {name} ")
        assert summaries["metrics"][f"{name}_noise"] == pytest.approx(noise)
        assert f"{name} 4.000 (noise {shown(noise)})" in text
    noise = noise_on_disk(judged.path, "question=word")
    assert questions["metrics"]["judge_turn1_noise"] == pytest.approx(noise)
    assert f"judge_turn1 4.000 (noise {shown(noise)})" in text
    assert f"judge 4.000 (noise {shown(questions['metrics']['judge_noise'])})" in text
    assert "noise: standard deviation of a judge's mean score between times of asking" in green.outlines
    assert not lines_wider(green, 80)

    judged.suite(BUDGETS)
    monkeypatch.setenv("COLUMNS", "160")
    red = judged.run(moody(2), "--kick-judge-repeats=3", "-k", "s0.1", "--junitxml=junit.xml", "-rA")
    red.assert_outcomes(failed=1)
    scores = judged.scores("s0.1")
    for name, score in (("coherence", scores["summarization"]), ("judge", scores["instruction_following"])):
        said_of_it = f"judge {name}: noise {shown(score['metrics'][f'{name}_noise'])}, the standard deviation of this mean over the 3 times"
        assert any(said_of_it in " ".join(line.split()) for line in red.outlines)
        assert any(f"{name} 2.000 (noise " in line for line in red.outlines)
    assert not lines_wider(red, 160)
    assert not leaks(judged, *green.outlines, *green.errlines, *red.outlines, *red.errlines)


def shown(value: float) -> str:
    """Return three decimals as reports print them."""
    return f"{value:.3f}".removeprefix("0")


def test_what_is_missing_is_shown_and_asking_once_says_so(judged: Judged) -> None:
    """One summary of eight without a score: left out, counted in the row, the others stand; no noise is made up."""

    def reply(body: dict[str, Any], _: int) -> Reply:
        prompt = prompt_of(body)
        return said("I cannot." if "word3" in prompt and "fluency" in prompt else "[[4]]" if "zq" in prompt else "[[1]]")

    result = judged.run(reply, "--kick-update")
    result.assert_outcomes(passed=2)
    text = " ".join(" ".join(result.outlines).split())
    assert "relevance 4.000; asked once, so its noise is not known; 1 of 8 not rated, 1 answer of the judge without a number" in text
    assert (judged.scores()["summarization"]["n"], judged.scores()["instruction_following"]["n"]) == (N - 1, N)


def test_a_judge_that_gives_everything_the_same_measures_nothing(judged: Judged) -> None:
    """Its dense cell is an error and no later cell is RETAINED: the question repeated as its answer scores as much as the model."""
    judged.suite(BUDGETS)
    result = judged.run(lambda _, __: said("[[4]]"), "--kick-update")
    result.assert_outcomes(errors=2)
    text = " ".join(" ".join(result.outlines).split())
    assert "COULD NOT MEASURE: got judge 4.000 on n=8, expected one shown to lie above 4.000, what knowing nothing scores." in text


ENDPOINTS: dict[str, tuple[Reply, str]] = {
    "down": (Reply(), "got no connection, expected a chat completion. Start the server, or correct the URL."),
    "slow": (Reply(delay=0.6), "got no answer within 0.3 s, expected"),
    "rate limit": (Reply(status=429, headers={"Retry-After": "600"}), "got HTTP 429, expected a chat completion. It asks to wait 600 s"),
    "key echoed": (Reply(status=401, body=json.dumps({"error": {"message": f"{KEY} {HOSTILE}"}})), "got HTTP 401 ("),
    "html": (Reply(body=HOSTILE, kind="text/html"), "got text/html without choices[0].message.content, expected"),
    "silent": (said(HOSTILE), "got no rating for 8 of 8 summaries, expected numbers from 1 to 5 in double brackets for all but 1."),
}


@pytest.mark.parametrize("name", ENDPOINTS)
def test_an_endpoint_that_fails_is_one_line_of_the_run(judged: Judged, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said below the test, in the table and in the run record, with neither key nor markup anywhere, even with all that pytest can show."""
    monkeypatch.setenv("COLUMNS", "400")
    client = import_module("pytest_kick.probes.judge_client").JudgeClient
    monkeypatch.setattr(client.__init__, "__kwdefaults__", {"timeout": 0.3 if name == "slow" else 5.0, "retries": 0})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    reply, expected = ENDPOINTS[name]
    traced = ("--full-trace", "-l", "--log-level=DEBUG") if name == "key echoed" else ()
    url = nowhere if name == "down" else ""
    result = judged.run(lambda *_: reply, "-k", "dense", "--kick-missing=warn", "--junitxml=junit.xml", "-rA", *traced, url=url)
    result.assert_outcomes(errors=1)
    (cell,) = judged.document()["cells"]
    assert expected in cell["error"]
    assert cell["error"].isprintable()
    if traced:
        assert KEY not in "\n".join(result.outlines + result.errlines)
        return
    assert sum(expected in line and "ERROR" in line for line in result.outlines) >= 1
    assert result.outlines.count(cell["error"]) == 1
    assert not leaks(judged, *result.outlines, *result.errlines)


def test_without_the_package_one_line_says_what_to_install(judged: Judged, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the model writes anything."""
    monkeypatch.setitem(sys.modules, "openai", None)  # type: ignore[arg-type]
    monkeypatch.setattr("pytest_kick.probes.summarization.generated", lambda *_, **__: pytest.fail("the model was asked"))
    result = judged.run(lambda *_: said("[[4]]"), "-k", "dense", "--kick-missing=warn")
    result.assert_outcomes(errors=1)
    assert "--kick-judge: package: got no openai, expected it installed. pip install 'pytest-kick[judge]'." in result.outlines
