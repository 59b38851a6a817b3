"""The package's version, and the semver form under which the plugin reports it.

A server's plugin catalog takes only semantic versions with a leading ``v``; Python's
own spelling of pre-releases (PEP 440: ``1.0.0rc1``) is refused there.
"""

import re

__version__ = "1.0.0"

_PEP440 = re.compile(
    r"(?P<release>\d+(?:\.\d+){0,2})"
    r"(?:(?P<stage>a|b|rc)(?P<stage_number>\d+))?"
    r"(?:\.post(?P<post>\d+))?"
    r"(?:\.dev(?P<dev>\d+))?"
    r"(?:\+(?P<local>[a-z0-9]+(?:[._-][a-z0-9]+)*))?"
)
_STAGE_NAMES = {"a": "alpha", "b": "beta", "rc": "rc"}


def semver(version: str = __version__) -> str:
    """Return the semantic version, with its leading ``v``, of a PEP 440 version.

    ``1.0.0rc1`` becomes ``v1.0.0-rc.1`` and ``1.0.0.dev3`` becomes ``v1.0.0-dev.3``.
    A post release has no counterpart in semver's order and goes, with a local
    label, into the build metadata.

    Raises:
        ValueError: the text is no version of that form (an epoch, or four numbers).
    """
    match = _PEP440.fullmatch(version)
    if match is None:
        raise ValueError(f"{version!r} has no semantic-version form")
    numbers = [*match["release"].split("."), "0", "0"][:3]
    pre = []
    if match["stage"]:
        pre += [_STAGE_NAMES[match["stage"]], match["stage_number"]]
    if match["dev"] is not None:
        pre += ["dev", match["dev"]]
    build = []
    if match["post"] is not None:
        build += ["post", match["post"]]
    if match["local"]:
        build.append(re.sub(r"[._-]", ".", match["local"]))
    text = "v" + ".".join(str(int(number)) for number in numbers)
    return text + ("-" + ".".join(pre) if pre else "") + ("+" + ".".join(build) if build else "")
