"""What each tiny model is: its architecture, its tokenizer and its training, in one record per model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

from tools.tiny import vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

    from tools.tiny.corpus import Statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Say how one model is made.

    Attributes:
        name: of the model and its directory.
        family: `encoder`, `encoder-decoder` or `decoder`.
        width: of the hidden states.
        n_layers: blocks (encoder-decoder: of each half).
        n_heads: attention heads of each block.
        inner: width inside the ffn.
        vocabulary: pieces (encoder) or tokens (others) that the tokenizer may learn.
        epochs: passes over all sentences.
        batch: sentences per step.
        rate: highest learning rate.
        decay: decoupled weight decay of the matrices.
        language: share of the visits of a sentence that mask it at random instead of at its answer; decoder: share of the
            tokens outside the answer that a visit learns.
        seed: of initial weights, order and masks.
    """

    name: str
    family: str
    width: int
    n_layers: int
    n_heads: int
    inner: int
    vocabulary: int
    epochs: int
    batch: int
    rate: float
    decay: float
    language: float
    seed: int


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="tiny-encoder",
            family="encoder",
            width=64,
            n_layers=2,
            n_heads=4,
            inner=256,
            vocabulary=600,
            epochs=40,
            batch=256,
            rate=4e-3,
            decay=0.05,
            language=0.15,
            seed=0,
        ),
        Recipe(
            name="tiny-encoder-decoder",
            family="encoder-decoder",
            width=80,
            n_layers=2,
            n_heads=4,
            inner=160,
            vocabulary=1800,
            epochs=26,
            batch=128,
            rate=3e-3,
            decay=1.0,
            language=0.15,
            seed=0,
        ),
        Recipe(
            name="tiny-decoder",
            family="decoder",
            width=96,
            n_layers=2,
            n_heads=4,
            inner=256,
            vocabulary=1800,
            epochs=28,
            batch=128,
            rate=3e-3,
            decay=0.5,
            language=0.1,
            seed=0,
        ),
    )
}


def tokenizer_of(recipe: Recipe, statements: tuple[Statement, ...]) -> PreTrainedTokenizerFast:
    """Return the tokenizer of a model, built from the statements."""
    if recipe.family == "encoder":
        return vocabulary.wordpiece(statements, recipe.vocabulary)
    if recipe.family == "decoder":
        return vocabulary.byte_level(statements, recipe.vocabulary)
    return vocabulary.sentinels(statements, recipe.vocabulary)


def model_of(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """Return the untrained model of a recipe; its weights follow torch's global seed."""
    if recipe.family == "encoder":
        return BertForMaskedLM(_bert(recipe, tokenizer))
    if recipe.family == "decoder":
        return LlamaForCausalLM(_llama(recipe, tokenizer))
    return T5ForConditionalGeneration(_t5(recipe, tokenizer))


def _bert(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> BertConfig:
    return BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.width,
        num_hidden_layers=recipe.n_layers,
        num_attention_heads=recipe.n_heads,
        intermediate_size=recipe.inner,
        max_position_embeddings=vocabulary.MAX_LENGTH,
        type_vocab_size=2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        pad_token_id=tokenizer.pad_token_id,
    )


def _llama(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.width,
        num_hidden_layers=recipe.n_layers,
        num_attention_heads=recipe.n_heads,
        num_key_value_heads=recipe.n_heads,
        intermediate_size=recipe.inner,
        max_position_embeddings=vocabulary.MAX_LENGTH,
        initializer_range=recipe.width**-0.5,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def _t5(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> T5Config:
    values: dict[str, Any] = {  # transformers types a part of them only
        "vocab_size": len(tokenizer),
        "d_model": recipe.width,
        "d_kv": recipe.width // recipe.n_heads,
        "d_ff": recipe.inner,
        "num_layers": recipe.n_layers,
        "num_heads": recipe.n_heads,
        "relative_attention_num_buckets": 16,
        "relative_attention_max_distance": 64,
        "dropout_rate": 0.0,
        "feed_forward_proj": "gated-silu",
        "tie_word_embeddings": False,  # transformers ties all the same, and reads this as: logits are not scaled (T5 1.1)
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": tokenizer.pad_token_id,
    }
    return T5Config(**values)
