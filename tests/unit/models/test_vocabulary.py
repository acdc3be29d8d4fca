"""Whether a tokenizer can be a model's own: the sizes and special tokens of known models pass, those of others do not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers
from tiny_models import WORDS, make_tokenizer

from pytest_kick.errors import ModelError
from pytest_kick.models.checks import check_tokenizer
from pytest_kick.models.load import load
from pytest_kick.models.quiet import quiet
from pytest_kick.spec import ModelSpec

if TYPE_CHECKING:
    from pathlib import Path

# model type, rows of the embedding, ids that its configuration states, size of its tokenizer, ids of its special and added tokens
GPT2 = ("gpt2", 50257, {}, 50257, {"eos": 50256})
NEOX = {"eos": 0, "added": [0, 1, *range(50254, 50277)]}
ZERO = {"bos_token_id": 0, "eos_token_id": 0}
ROBERTA_MARKS = {"bos": 0, "pad": 1, "eos": 2, "unk": 3, "mask": 50264}
ROBERTA = ("roberta", 50265, {}, 50265, ROBERTA_MARKS)
OPT = ("opt", 50272, {}, 50265, {"bos": 2, "eos": 2, "pad": 1})
BERT = ("bert", 30522, {}, 30522, {"pad": 0, "unk": 100, "cls": 101, "sep": 102, "mask": 103})
CASED = ("bert", 28996, {}, 28996, {"pad": 0, "unk": 100, "cls": 101, "sep": 102, "mask": 103})
T5 = ("t5", 32128, {}, 32100, {"pad": 0, "eos": 1, "unk": 2, "added": [*range(32000, 32100)]})
LLAMA2 = ("llama", 32000, {}, 32000, {"unk": 0, "bos": 1, "eos": 2})
LLAMA3 = ("llama", 128256, {"bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009]}, 128256, {"bos": 128000, "eos": 128009})
QWEN_END = {"eos": 151645, "pad": 151643, "added": [*range(151643, 151665)]}
QWEN = ("qwen2", 151936, {"bos_token_id": 151643, "eos_token_id": 151645}, 151665, QWEN_END)
GEMMA_MARKS = {"pad": 0, "eos": 1, "bos": 2, "unk": 3}
KNOWN: dict[str, tuple[str, int, dict[str, Any], int, dict[str, Any]]] = {
    "bert uncased": BERT,
    "bert cased": CASED,
    "distilbert": ("distilbert", *BERT[1:]),
    "electra": ("electra", *BERT[1:]),
    "albert": ("albert", 30000, {}, 30000, {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}),
    "roberta": ROBERTA,
    "xlm-roberta": ("xlm-roberta", 250002, {}, 250002, {**ROBERTA_MARKS, "mask": 250001}),
    "xlm-roberta-xl, padded": ("xlm-roberta", 250880, {}, 250002, {**ROBERTA_MARKS, "mask": 250001}),
    "camembert": ("camembert", 32005, {"bos_token_id": 5, "eos_token_id": 6}, 32005, {"bos": 5, "eos": 6, "pad": 1, "mask": 32004}),
    "modernbert": ("modernbert", 50368, {}, 50368, {"unk": 50280, "cls": 50281, "sep": 50282, "pad": 50283, "mask": 50284}),
    "t5": T5,
    "mt5": ("mt5", 250112, {}, 250100, {"pad": 0, "eos": 1, "unk": 2}),
    "bart": ("bart", *ROBERTA[1:]),
    "llama 2": LLAMA2,
    "llama 2 with a token added but no row": ("llama", 32000, {}, 32001, {"unk": 0, "bos": 1, "eos": 2, "added": [32000]}),
    "llama 3 instruct": LLAMA3,
    "smollm2": ("llama", 49152, {}, 49152, {"bos": 1, "eos": 2, "added": [*range(17)]}),
    "deepseek, most padding": ("llama", 102400, {"bos_token_id": 100000, "eos_token_id": 100001}, 100015, {"bos": 100000, "eos": 100001}),
    "deepseek-coder": ("llama", 32256, {"bos_token_id": 32013, "eos_token_id": 32021}, 32022, {"bos": 32013, "eos": 32021}),
    "mistral": ("mistral", *LLAMA2[1:]),
    "qwen2.5, small": QWEN,
    "qwen2.5, large": ("qwen2", 152064, *QWEN[2:]),
    "qwen2.5 base with the end of turns as eos": ("qwen2", 151936, {"bos_token_id": 151643, "eos_token_id": 151643}, 151665, QWEN_END),
    "qwen2.5 tokenizer without eos or added tokens declared": ("qwen2", *QWEN[1:3], 151665, {}),
    "qwen3": ("qwen3", 151936, {"bos_token_id": 151643, "eos_token_id": 151645}, 151669, QWEN_END),
    "gemma": ("gemma", 256000, {}, 256000, GEMMA_MARKS),
    "gemma 3, whose image token has no row": (
        "gemma3_text",
        262144,
        {"eos_token_id": [1, 106]},
        262145,
        {**GEMMA_MARKS, "added": [105, 106, 262144]},
    ),
    "phi-2": ("phi", 51200, {"bos_token_id": 50256, "eos_token_id": 50256}, 50295, {"eos": 50256, "added": [*range(50257, 50295)]}),
    "phi-1.5": ("phi", 51200, {"bos_token_id": None, "eos_token_id": None}, 50295, {"eos": 50256}),
    "phi-3": ("phi3", 32064, {}, 32011, {"bos": 1, "eos": 32000, "added": [*range(32000, 32011)]}),
    "opt": OPT,
    "gpt-2": GPT2,
    "gpt-2 of another language, its ids left as they were": ("gpt2", 100000, {}, 100000, {"eos": 5, "pad": 1}),
    "gpt-2, small, its ids beyond its vocabulary": ("gpt2", 5000, {}, 5000, {"eos": 0}),
    "pythia-70m": ("gpt_neox", 50304, ZERO, 50277, NEOX),
    "pythia-6.9b": ("gpt_neox", 50432, ZERO, 50277, NEOX),
    "pythia-12b": ("gpt_neox", 50688, ZERO, 50277, NEOX),
    "mixtral": ("mixtral", *LLAMA2[1:]),
    "a small vocabulary padded to a multiple of 128": ("llama", 256, {}, 129, {"bos": 0}),
    "a tokenizer without special tokens": ("llama", 300, {"bos_token_id": 7}, 300, {}),
}
FOREIGN: dict[str, tuple[str, str, str]] = {
    "cased on uncased": ("bert uncased", "bert cased", r"ids up to 28995 for the 30522 rows .* leaves 1526 idle; expected at most 953"),
    "uncased on cased": ("bert cased", "bert uncased", r"token ids up to 30521, expected ids below the 28996 rows"),
    "llama 3 on qwen": ("qwen2.5, small", "llama 3 instruct", r"leaves 23680 idle"),
    "llama 2 on llama 3": ("llama 3 instruct", "llama 2", r"leaves 96256 idle"),
    "gpt-2 on opt": ("opt", "gpt-2", r"plain tokens 't1', 't2' .* \(pad_token_id 1, eos_token_id 2\), expected a special token there"),
    "gpt-2 on roberta": ("roberta", "gpt-2", r"plain tokens 't0', 't1', 't2'"),
    "gpt-2 on pythia": ("pythia-70m", "gpt-2", r"plain tokens 't0' .* \(eos_token_id 0\)"),
    "roberta on gpt-2": ("gpt-2", "roberta", r"token ids up to 50264, expected ids below the 50257 rows"),
    "t5 on bart": ("bart", "t5", r"leaves 18165 idle"),
    "t5 on llama 2": ("llama 2", "t5", r"token ids up to 32099, expected ids below the 32000 rows"),
}


class FakeTokenizer:
    """Have as many tokens as it is told, with these ids special."""

    def __init__(self, size: int, marks: dict[str, Any]) -> None:
        """Take the special tokens by role, and under `added` further ones."""
        marks = dict(marks)
        self.added_tokens_decoder = dict.fromkeys(marks.pop("added", ()))
        self.all_special_ids = sorted(set(marks.values()))
        self.size = size
        for role, token in marks.items():
            setattr(self, f"{role}_token_id", token)

    def get_vocab(self) -> dict[str, int]:
        """Return token -> id."""
        return {f"t{i}": i for i in range(self.size)}

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        """Return the tokens of ids."""
        return [f"t{i}" for i in ids]


def check(model: tuple[Any, ...], tokenizer: tuple[Any, ...]) -> None:
    """Hold the tokenizer of one known model against another model, whose configuration is transformers' own."""
    kind, rows, stated = model[:3]
    config = transformers.AutoConfig.for_model(kind, vocab_size=rows, **stated)
    module = SimpleNamespace(
        config=config,
        generation_config=transformers.GenerationConfig.from_model_config(config),
        get_input_embeddings=lambda: torch.nn.Embedding(rows, 1, device="meta"),
    )
    check_tokenizer(FakeTokenizer(*tokenizer[3:]), module, "model 'x'")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", KNOWN)
def test_no_known_model_is_refused(name: str) -> None:
    """The sizes and special tokens of real models, padding, left-over ids and tokens without a row included, are accepted."""
    check(KNOWN[name], KNOWN[name])


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_vocabulary_is_refused(name: str) -> None:
    """A tokenizer of another vocabulary, larger or smaller, is an error that says what was compared."""
    model, tokenizer, message = FOREIGN[name]
    with pytest.raises(ModelError, match=message) as error:
        check(KNOWN[model], KNOWN[tokenizer])
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("model 'x': tokenizer: got ")
    assert str(error.value).endswith("Use the model's own tokenizer.")


@pytest.mark.parametrize(("idle", "refused"), [(127, False), (128, True)])
def test_small_vocabularies_may_be_padded_to_a_multiple_of_128(idle: int, *, refused: bool) -> None:
    """127 idle rows are padding, 128 are not, where a share of the rows would be less."""
    model = ("llama", 1000, {}, 1000 - idle, {"bos": 1})
    if refused:
        with pytest.raises(ModelError, match=r"leaves 128 idle; expected at most 127"):
            check(model, model)
    else:
        check(model, model)


def test_an_added_token_that_is_used_needs_a_row() -> None:
    """A tokenizer that pads with a token beyond the embedding is refused: the forward pass would fail on it."""
    model = ("llama", 32000, {}, 32001, {"bos": 1, "eos": 2, "pad": 32000, "added": [32000]})
    with pytest.raises(ModelError, match=r"token ids up to 32000, expected ids below the 32000 rows"):
        check(model, model)


def test_a_directory_with_a_foreign_tokenizer_is_refused(tmp_path: Path) -> None:
    """Loading a real directory with a real tokenizer of another vocabulary ends in that error."""
    config = transformers.LlamaConfig(
        vocab_size=400,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        bos_token_id=300,
        eos_token_id=301,
        pad_token_id=None,
    )
    spec = ModelSpec(name="m", family="decoder", source="path:/nowhere")
    words = [*WORDS, *(f"v{i}" for i in range(400 - len(WORDS)))]
    with quiet():
        transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
        make_tokenizer(words[:200]).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"ids up to 199 for the 400 rows"):
        load(spec, tmp_path)
    make_tokenizer(words).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"plain tokens 'v274', 'v275' .* \(bos_token_id 300, eos_token_id 301\)"):
        load(spec, tmp_path)
