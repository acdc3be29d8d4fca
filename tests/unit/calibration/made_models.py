"""Tiny random models of ten architectures and more, tokenizers for each family, and what a plain forward pass gives each layer."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import PreTrainedTokenizerFast

from pytest_kick.calibration.batches import Sample
from pytest_kick.calibration.inputs import input_name
from pytest_kick.models.loaded import LoadedModel
from pytest_kick.models.matrices import find_matrices
from pytest_kick.models.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_kick.models.matrices import Matrix

VOCABULARY = 60
SPECIAL = {"vocab_size": VOCABULARY, "pad_token_id": 3, "bos_token_id": 0, "eos_token_id": 1}
BERT = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 48}
LLAMA = {**BERT, "num_key_value_heads": 1, "head_dim": 8}
T5 = {"d_model": 16, "d_ff": 24, "d_kv": 8, "num_layers": 3, "num_heads": 2, "decoder_start_token_id": 3}
BART = {
    "d_model": 16,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": 48,
    "decoder_start_token_id": 1,
}
OPT = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "ffn_dim": 24,
    "max_position_embeddings": 48,
    "word_embed_proj_dim": 8,
}
KINDS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "bert": ("encoder", "BertConfig", "BertForMaskedLM", BERT),
    "roberta": ("encoder", "RobertaConfig", "RobertaForMaskedLM", BERT),
    "t5": ("encoder-decoder", "T5Config", "T5ForConditionalGeneration", T5),
    "bart": ("encoder-decoder", "BartConfig", "BartForConditionalGeneration", BART),
    "llama": ("decoder", "LlamaConfig", "LlamaForCausalLM", LLAMA),
    "qwen2": ("decoder", "Qwen2Config", "Qwen2ForCausalLM", LLAMA),
    "gemma": ("decoder", "GemmaConfig", "GemmaForCausalLM", LLAMA),
    "gemma3": ("decoder", "Gemma3TextConfig", "Gemma3ForCausalLM", {**LLAMA, "sliding_window": 4}),
    "opt": ("decoder", "OPTConfig", "OPTForCausalLM", OPT),
    "gpt2": ("decoder", "GPT2Config", "GPT2LMHeadModel", {"n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 48}),
    "neox": ("decoder", "GPTNeoXConfig", "GPTNeoXForCausalLM", BERT),
}
OTHERS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "albert": ("encoder", "AlbertConfig", "AlbertForMaskedLM", {**BERT, "embedding_size": 8}),
    "mixtral": ("decoder", "MixtralConfig", "MixtralForCausalLM", {**LLAMA, "num_local_experts": 3}),
}
EARLY = ("project_in", "embedding_hidden_mapping_in")
PRUNABLE = frozenset({"attention", "ffn", "other", "head"})


def make_module(kind: str) -> Any:
    """Return a random model, always the same one for a kind."""
    _, config, cls, options = {**KINDS, **OTHERS}[kind]
    torch.manual_seed(0)
    with quiet():
        module = getattr(transformers, cls)(getattr(transformers, config)(**{**SPECIAL, **options}))
    return module.eval().requires_grad_(requires_grad=False)


def family_of(kind: str) -> str:
    """Return the family of a kind."""
    return {**KINDS, **OTHERS}[kind][0]


def matrices_of(module: nn.Module, roles: Iterable[str] = PRUNABLE) -> tuple[Matrix, ...]:
    """Return the matrices of some roles."""
    return tuple(matrix for matrix in find_matrices(module) if matrix.role in set(roles))


def make_samples(kind: str, lengths: Iterable[int] = (12, 12, 12, 9, 9)) -> list[Sample]:
    """Return random sequences of some lengths; what a decoder of two reads is 3 tokens shorter."""
    generator = torch.Generator().manual_seed(1)

    def ids(length: int) -> tuple[int, ...]:
        return tuple(torch.randint(5, VOCABULARY, (length,), generator=generator).tolist())

    two = family_of(kind) == "encoder-decoder"
    return [Sample(input_ids=ids(n), decoder_input_ids=(3, *ids(n - 4)) if two else ()) for n in lengths]


@torch.no_grad()
def inputs_by_hand(module: nn.Module, batches: Iterable[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return what plain forward passes give each Linear and Conv1D: module name -> `(tokens, in)`."""
    found: dict[str, list[torch.Tensor]] = {}
    handles = []
    for name, child in module.named_modules():
        if isinstance(child, (nn.Linear, transformers.pytorch_utils.Conv1D)):

            def see(_module: nn.Module, args: tuple[torch.Tensor, ...], name: str = name) -> None:
                found.setdefault(name, []).append(args[0].reshape(-1, args[0].shape[-1]).clone())

            handles.append(child.register_forward_pre_hook(see))
    for batch in batches:
        module(**batch, use_cache=False)
    for handle in handles:
        handle.remove()
    return {name: torch.cat(parts) for name, parts in found.items()}


def change_(module: nn.Module, matrices: Iterable[Matrix]) -> None:
    """Compress in a way that shows: every other column of each matrix becomes zero, in memory of its own."""
    for matrix in matrices:
        parameter = module.get_parameter(matrix.parameter)
        kept = torch.ones(matrix.shape)
        kept[:, ::2] = 0
        values = parameter.detach().clone()
        matrix.write_(values, matrix.read(values) * kept)
        parameter.data = values


def blocks_in_order(module: nn.Module) -> list[str]:
    """Return the names of the blocks, the encoder's before the decoder's: as the architectures list them, nothing observed."""
    lists = [
        (name, child) for name, child in module.named_modules() if isinstance(child, nn.ModuleList) and not any(c.isdigit() for c in name)
    ]
    ordered = sorted(lists, key=lambda entry: "decoder" in entry[0].split("."))
    return [f"{name}.{number}" for name, child in ordered for number in range(len(child))]


def expected_by_hand(kind: str, batches: Iterable[Mapping[str, torch.Tensor]], roles: Iterable[str] = PRUNABLE) -> dict[str, torch.Tensor]:
    """Return the inputs of each matrix where everything before its block is compressed: a fresh model and a plain pass for each block."""
    batches = list(batches)
    module = make_module(kind)
    blocks = blocks_in_order(module)
    groups = [[m for m in matrices_of(module, roles) if m.module.startswith(f"{block}.")] for block in blocks]
    inside = {m.name for group in groups for m in group}
    outside = [m for m in matrices_of(module, roles) if m.name not in inside]
    early = [[m] for m in outside if m.module.endswith(EARLY)]
    groups = [*early, *groups, *([m] for m in sorted(outside, key=lambda m: m.role == "head") if not m.module.endswith(EARLY))]
    found = {}
    done: list[Matrix] = []
    for group in groups:
        partly = copy.deepcopy(module)
        change_(partly, done)
        given = inputs_by_hand(partly, batches)
        found.update({matrix.name: given[matrix.module] for matrix in group})
        done += group
    return found


class Recorder:
    """Take inputs in, and give them back for each matrix."""

    def __init__(self) -> None:
        """Start empty."""
        self.rows: dict[str, list[torch.Tensor]] = {}
        self.keys: dict[str, str] = {}

    def add(self, key: str, x: torch.Tensor) -> None:
        """Keep a copy."""
        self.rows.setdefault(key, []).append(x.clone())

    def of(self, matrix: Matrix) -> torch.Tensor:
        """Return all inputs of a matrix."""
        return torch.cat(self.rows[self.keys.get(matrix.name, input_name(matrix))])


def make_tokenizer(family: str, *, sentinels: int = 8) -> PreTrainedTokenizerFast:
    """Return a word-level tokenizer with the special tokens of a family, one id for each letter pair of a small vocabulary."""
    marks = [f"<extra_id_{number}>" for number in range(sentinels)] if family == "encoder-decoder" else []
    base = ["<s>", "</s>", "<unk>", "<pad>", "<mask>", "a", ".", *marks]
    words = [*base, *(f"w{number}" for number in range(VOCABULARY - len(base)))]
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))  # noqa: S106
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    single = {"encoder": "<s> $A </s>", "encoder-decoder": "$A </s>", "decoder": "<s> $A"}[family]
    backend.post_processor = processors.TemplateProcessing(single=single, special_tokens=[("<s>", 0), ("</s>", 1)])
    backend.add_special_tokens([*base[:5], *marks])
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **named)


def make_model(kind: str, **options: Any) -> LoadedModel:
    """Return a random model with a tokenizer of its family."""
    family = family_of(kind)
    return LoadedModel(name=kind, family=family, module=make_module(kind), tokenizer=make_tokenizer(family, **options))
