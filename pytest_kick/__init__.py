"""pytest-kick: a pytest gate for compressed language models.

Importing this package imports neither torch nor pytest.
"""

from __future__ import annotations

__version__ = "0.1.0"
