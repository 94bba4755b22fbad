"""What `--ptq-data SPEC` may say: one table of data kinds and the parser that reads it."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping

from pytest_ptq.errors import UnknownNameError, UsageError


class Argument(enum.Enum):
    """Whether a kind of data takes something behind `=`."""

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


DATA_KINDS: Mapping[str, Argument] = {
    "embedded": Argument.NONE,
    "imagenet": Argument.REQUIRED,
    "folder": Argument.REQUIRED,
}


def parse_data_spec(spec: str, extra: Iterable[str] = (), option: str = "--ptq-data") -> tuple[str, str | None]:
    """Split `kind` or `kind=argument`.

    Args:
        spec: such as `embedded` or `imagenet=/data/imagenet`. Only the first `=` separates.
        extra: further kinds (variants of a user's suite, kinds registered by a hook); their argument is optional.
        option: where it was given, for messages.

    Raises:
        UnknownNameError: no such kind; suggests the nearest.
        UsageError: an argument that is missing or that the kind does not take.
    """
    kind, separator, argument = (part.strip() for part in spec.strip().partition("="))
    known = {**dict.fromkeys(extra, Argument.OPTIONAL), **DATA_KINDS}
    if not kind:
        raise UsageError(f"{spec!r} names no kind of data", place=option, remedy=_usage(known))
    if kind not in known:
        raise UnknownNameError("kind of data", kind, known, place=option)
    if known[kind] is Argument.NONE and separator:
        raise UsageError(f"{kind!r} takes no argument", place=option, remedy=f"Write {option} {kind}.")
    if not argument and (separator or known[kind] is Argument.REQUIRED):
        raise UsageError(f"{kind!r} names no folder", place=option, remedy=f"Write {option} {kind}=DIR.")
    return kind, argument or None


def _usage(known: Iterable[str]) -> str:
    return f"Known: {', '.join(sorted(known))}."
