"""Make `judge_server` importable from the folders below, and keep the surroundings' settings of this project out of every test."""

from __future__ import annotations

import os

for _name in [name for name in os.environ if name.startswith("KICK_")]:
    del os.environ[_name]
