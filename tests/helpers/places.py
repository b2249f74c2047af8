"""Folders of the repository that tests refer to."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent.parent
"""The top level of the repository."""
