"""Load what pytest lets only the root's conftest load: the fixtures that test a plugin."""

from __future__ import annotations

pytest_plugins = ["pytester"]
