"""`python -m tools.messages` brings the message files up to date; exit 1 names what has to be translated."""

from __future__ import annotations

import sys

from edge_agent.cli.text.language import LANGUAGES, SOURCE
from tools.messages.extract import messages
from tools.messages.files import entries_of, faults, forms_of, path_of, updated


def main() -> int:
    """Updates each file; returns the exit code."""
    wrong = []
    for language in LANGUAGES:
        if language == SOURCE:
            continue
        path = path_of(language)
        text = updated(path.read_text(encoding="utf-8"))
        path.write_text(text, encoding="utf-8")
        wrong += faults(language, messages(), entries_of(text), forms_of(text))
    for one in wrong:
        print(one)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
