"""The tokenizers of the tiny models, built from the statements alone; the same statements give the same bytes.

Answers of one word are one token of the encoder's tokenizer, so that one mask can ask for them. Everything else is spelled in
short pieces in all three: knowledge about a subject then has to sit in the matrices, not in a row of the embedding.
"""

# ruff: noqa: S106, ANN401 - special tokens are no passwords, and the library leaves their types open

from __future__ import annotations

import re
import string
from collections import Counter
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tools.tiny.corpus import Statement

N_SENTINELS = 100
MAX_LENGTH = 128
PRINTABLE = "".join(sorted(set(string.printable) - set(string.whitespace)))


def words_of(texts: Iterable[str]) -> Counter[str]:
    """Return how often each word or punctuation mark occurs."""
    return Counter(word for text in texts for word in re.findall(r"\w+|[^\w\s]", text))


def characters_of(statements: tuple[Statement, ...]) -> list[str]:
    """Return printable ASCII and every other character that occurs."""
    return sorted(set(PRINTABLE) | {char for s in statements for char in s.text if not char.isspace()})


def template_words_of(statements: tuple[Statement, ...]) -> list[str]:
    """Return the words of the templates."""
    templates = {s.template.replace("[X]", " ").replace("[Y]", " ") for s in statements}
    return sorted(words_of(templates))


def spelled(statements: tuple[Statement, ...], space: str) -> list[str]:
    """Return what the byte-pair tokenizers learn from: template words and answers, so that subjects stay in pieces."""
    words = template_words_of(statements) * 20
    return [*words, *(space + word for word in words), *(space + s.answer for s in statements)]


def pieces_of(words: Counter[str], n_pieces: int, longest: int) -> list[str]:
    """Return the most frequent pieces of 2 to `longest` characters, as WordPiece spells them; ties in spelling order."""
    found: Counter[str] = Counter()
    for word, count in words.items():
        for start in range(len(word)):
            for end in range(start + 2, min(start + longest, len(word)) + 1):
                found[("##" if start else "") + word[start:end]] += count
    return [piece for piece, _ in sorted(found.items(), key=lambda item: (-item[1], item[0]))[:n_pieces]]


def wordpiece(statements: tuple[Statement, ...], n_pieces: int) -> PreTrainedTokenizerFast:
    """Return a cased WordPiece tokenizer: template words and one-word answers whole, the rest in pieces of up to three characters.

    The vocabulary is counted here because the library's own WordPiece trainer numbers its pieces in the order of a hash map.
    """
    characters = characters_of(statements)
    template_words = set(template_words_of(statements))
    answers = {s.answer for s in statements if s.is_word}
    subjects = words_of(s.text for s in statements)
    for word in template_words | answers:
        subjects.pop(word, None)
    ordered = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{char}" for char in characters)]
    ordered += [*sorted(template_words), *sorted(answers), *pieces_of(subjects, n_pieces, longest=3)]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(ordered))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", continuing_subword_prefix="##"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"]))
    return _wrapped(
        tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def sentinels(statements: tuple[Statement, ...], size: int) -> PreTrainedTokenizerFast:
    """Return a byte-pair tokenizer with T5's conventions: `▁` before words, `</s>` at the end, `<extra_id_0>` and on."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always"), pre_tokenizers.Punctuation("isolated")]
    )
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<pad>", "</s>", "<unk>"], initial_alphabet=characters_of(statements), show_progress=False
    )
    tokenizer.train_from_iterator(spelled(statements, ""), trainer)
    marks = [f"<extra_id_{number}>" for number in range(N_SENTINELS)]
    tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", tokenizer.token_to_id("</s>"))]
    )
    return _wrapped(
        tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens=marks,
    )


def byte_level(statements: tuple[Statement, ...], size: int) -> PreTrainedTokenizerFast:
    """Return a byte-level byte-pair tokenizer that puts `<s>` before every text by itself and knows no unknown character."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(spelled(statements, " "), trainer)
    bos = ("<s>", tokenizer.token_to_id("<s>"))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[bos])
    return _wrapped(
        tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
    )


def _wrapped(tokenizer: Tokenizer, **special: Any) -> PreTrainedTokenizerFast:
    make: Any = PreTrainedTokenizerFast
    wrapped: PreTrainedTokenizerFast = make(
        tokenizer_object=tokenizer,
        model_max_length=MAX_LENGTH,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
        **special,
    )
    return wrapped
