"""Make `judge_server` importable from the folders below."""
