"""The parts of `tools/build_facts.py`: where the facts come from and the rules that drop bad ones."""
