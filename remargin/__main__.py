"""Entry point of ``remargin`` and ``python -m remargin``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from remargin.mistakes import is_interrupt, sentence

if TYPE_CHECKING:
    from collections.abc import Sequence

USER_MISTAKE = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code.

    Parameters
    ----------
    arguments
        Words after the program's name; those of the process by default.

    Raises
    ------
    SystemExit
        Always: 0 for success, 1 for an honest negative (a vector that fails, a run that
        differs), 2 for a user's mistake, 130 for Ctrl-C.
    """
    from remargin.cli import app

    try:
        app(args=arguments, prog_name="remargin")
    except Exception as error:
        if is_interrupt(error):
            raise SystemExit(INTERRUPTED) from None
        said = sentence(error)
        if said is None:
            raise
        sys.stderr.write(said + "\n")
        raise SystemExit(USER_MISTAKE) from None


if __name__ == "__main__":
    main()
