"""Probes: what a model still knows, example by example.

`facts.FactsProbe` is the probe; `prepare` turns facts into token ids once per tokenizer, `trie` holds the candidate answers,
`forward` runs the model, `head` computes logits in float32 where they are scored, `ranking` decides from first-token bounds which
candidates still matter, `summary` adds the trivial baselines. Another probe is a class with `run(model, ...) -> ProbeScore`.
"""
