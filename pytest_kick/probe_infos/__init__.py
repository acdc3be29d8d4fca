"""The table of built-in probes, a part for each kind."""

from __future__ import annotations

from pytest_kick.probe_infos.answers import ANSWERS
from pytest_kick.probe_infos.choices import CHOICES
from pytest_kick.probe_infos.judged import JUDGED
from pytest_kick.probe_infos.knowledge import KNOWLEDGE
from pytest_kick.probe_infos.language import LANGUAGE
from pytest_kick.probe_infos.recall import RECALL
from pytest_kick.probe_infos.relations import RELATIONS
from pytest_kick.probe_infos.tasks import TASKS

BUILTIN_PROBES = (*KNOWLEDGE, *RELATIONS, *LANGUAGE, *CHOICES, *RECALL, *TASKS, *ANSWERS, *JUDGED)

__all__ = ["BUILTIN_PROBES"]
