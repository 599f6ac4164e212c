"""Secret files: keys and secrets, each alone in a file, so that none stands in the environment or in a log."""

from __future__ import annotations

from pathlib import Path


def secret_text(path: Path, expected: str = "one word") -> str:
    """The text of a file without blanks around it.

    Raises:
        ValueError: when it can't be read, or holds anything but one word of printable ASCII, not quoting it.
    """
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError as fault:
        raise ValueError(f"the file can't be read ({fault.strerror})") from None
    except UnicodeDecodeError:
        text = ""
    if not text or not text.isprintable() or " " in text:
        raise ValueError(f"expected a file of {expected}")
    return text
