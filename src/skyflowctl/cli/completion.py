"""Completion scripts: commands and options are in them; for names they call skyflowctl.

A script has every command and option of the time it is printed; print it again after an upgrade.
"""

from collections.abc import Callable, Iterator, Mapping

from typer.core import TyperCommand

from skyflowctl.cli.app import every_command
from skyflowctl.cli.help import TOPICS
from skyflowctl.cli.main import COMPLETE
from skyflowctl.cli.registry import GROUPS, children
from skyflowctl.frozen import dataclass

_NAMES = {"MOUNT": "mount", "ROLE": "role"}
_FILES = frozenset({"DIR", "DIRECTORY", "FILE", "LOG", "PATH", "PATTERN"})
_FILE_FLAGS = frozenset({"--allow-exec"})
# Their PATH is one of the server.
_SERVER_FLAGS = frozenset(
    {"--adopt", "--allow-destroy", "--allow-move", "--credentials-directory", "--mount"}
) | {"--path-prefix"}
_ARGUMENTS = {
    "apply": "mount* files",  # MOUNT may be a saved plan
    "approvals approve": "accessor",
    "approvals show": "accessor",
    "context add": "context",
    "context remove": "context",
    "context use": "context",
}


@dataclass(frozen=True, slots=True)
class Offers:
    """The possible next arguments with summaries, by command path ("" is the root).

    ``specs`` has what ``live_names.complete`` must know of each command.
    """

    words: Mapping[str, Mapping[str, str]]
    flags: Mapping[str, Mapping[str, str]]
    values: Mapping[str, Mapping[str, tuple[str, ...]]]
    specs: Mapping[str, str]


def collect() -> Offers:
    """Import every command and return all that can be completed."""
    words: dict[str, Mapping[str, str]] = {"": {w: text for w, text, _ in children()}}
    for group in GROUPS:
        words[group] = {word: text for word, text, _ in children(group)}
    words["help"] = {**words[""], **TOPICS}
    words["completion"] = {shell: f"for {shell}" for shell in SCRIPTS}
    flags: dict[str, Mapping[str, str]] = {}
    values: dict[str, dict[str, tuple[str, ...]]] = {}
    specs: dict[str, str] = {}
    for name, command in every_command():
        own = {"--help": "Show the page of this command."}
        for parameter in command.params:
            for flag in parameter.opts if parameter.param_type_name == "option" else ():
                own[flag] = str(getattr(parameter, "help", "") or "").split(" [env:")[0]
                choices = tuple(getattr(parameter.type, "choices", ()))
                if choices:
                    values.setdefault(name, {})[flag] = choices
        flags[name] = own
        arguments = _ARGUMENTS.get(name) or " ".join(_argument_kinds(command))
        specs[name] = f"{arguments} {' '.join(_option_kinds(command))}".strip()
    return Offers(words, flags, values, specs)


def _argument_kinds(command: TyperCommand) -> Iterator[str]:
    """Yield the kinds of a command's arguments, and ``files`` if one of them is a file."""
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    names = [(one.metavar or "").strip("[].") for one in arguments]
    for name, one in zip(names, arguments, strict=True):
        yield _NAMES.get(name, "other") + "*" * (one.nargs < 0)
    if not _FILES.isdisjoint(names):
        yield "files"


def _option_kinds(command: TyperCommand) -> Iterator[str]:
    """Yield every option that takes a value, with the kind of that value behind a colon."""
    for one in command.params:
        is_switch = getattr(one, "is_flag", False) or getattr(one, "count", False)
        if one.param_type_name != "option" or is_switch:
            continue
        kind = "context" if "--context" in one.opts else ""
        # An option's ROLE belongs to a mount that is not known here.
        if one.metavar == "MOUNT":
            kind = "mount"
        elif not _FILE_FLAGS.isdisjoint(one.opts) or (
            one.metavar in _FILES and _SERVER_FLAGS.isdisjoint(one.opts)
        ):
            kind = "file"
        yield from (f"{flag}:{kind}" for flag in one.opts)


def script_for(shell: str) -> str:
    """Return the completion script of a shell: a key of ``SCRIPTS``."""
    return SCRIPTS[shell](collect())


_BASH = r"""# bash completion of skyflowctl; load it with: source <(skyflowctl completion bash)
_skyflowctl() {
  local current previous path="" word index words="" flags="" values="" spec="" files=""
  current="${COMP_WORDS[COMP_CWORD]}"
  previous="${COMP_WORDS[COMP_CWORD-1]}"
  # bash makes three words of --flag=value.
  [[ "$previous" == "=" ]] && previous="${COMP_WORDS[COMP_CWORD-2]}"
  [[ "$current" == "=" ]] && current=""
  for ((index = 1; index < COMP_CWORD; index++)); do
    word="${COMP_WORDS[index]}"
    [[ "$word" == -* ]] && break
    case "$path" in
    "") path="$word" ;;
    @GROUPS@) path="$path $word"; ((index++)); break ;;
    *) break ;;
    esac
  done
  case "$path $previous" in
@VALUES@
  esac
  case "$path" in
@WORDS@
  esac
  case "$path" in
@FLAGS@
  esac
  case "$path" in
@SPECS@
  esac
  case " $spec " in
  *" $previous:file "*) files=1 ;;
  *" $previous:"*) ;;
  *" files "*) files=2 ;;
  esac
  [[ " ${COMP_WORDS[*]:1:COMP_CWORD-1} " == *" -- "* ]] && files=1
  if [[ -n "$values" || "$files" == 1 ]]; then
    :
  elif [[ "$current" == -* ]]; then
    values="$flags"
  elif [[ -n "$spec" ]]; then
    values="$(command skyflowctl @COMPLETE@ "$spec" "${COMP_WORDS[@]:index:COMP_CWORD-index}" \
      "$current" 2>/dev/null)"
  fi
  COMPREPLY=($(compgen -W "${values:-$words}" -- "$current"))
  # Without compopt, bash 3 offers no files.
  [[ -n "$files" && "${#COMPREPLY[@]}" == 0 ]] && compopt -o default 2>/dev/null
  return 0
}
complete -F _skyflowctl skyflowctl
"""
_ZSH = r"""#compdef skyflowctl
# zsh completion of skyflowctl; load it with: source <(skyflowctl completion zsh)
_skyflowctl() {
  local -a offered names
  local place="" word spec="" values="" files="" current="${words[CURRENT]}"
  local previous="${words[CURRENT-1]}"
  local -i index=2
  for word in ${words[2,CURRENT-1]}; do
    [[ "$word" == -* ]] && break
    case "$place" in
    "") place="$word" ;;
    @GROUPS@) place="$place $word"; ((index++)); break ;;
    *) break ;;
    esac
    ((index++))
  done
  if compset -P '--*='; then
    previous="${current%%=*}"
  fi
  case "$place $previous" in
@VALUES@
  esac
  if [[ -n "$values" ]]; then
    compadd -- ${=values}
    return
  fi
  case "$place" in
@SPECS@
  esac
  case " $spec " in
  *" $previous:file "*) files=1 ;;
  *" $previous:"*) ;;
  *" files "*) files=2 ;;
  esac
  (( ${words[(I)--]} > 0 && ${words[(I)--]} < CURRENT )) && files=1
  if [[ "$files" != 1 && -n "$spec" && ( "$current" != -* || "$current" == --*=* ) ]]; then
    names=(${(f)"$(command skyflowctl @COMPLETE@ "$spec" \
      "${(@)words[index,CURRENT-1]}" "$current" 2>/dev/null)"})
    (( $#names )) && compadd -a names && return
  fi
  if [[ -n "$files" && "$current" != -* || "$files" == 1 ]]; then
    _files
    return
  fi
  [[ " $spec " == *" $previous:"* ]] && return 1
  case "$place" in
@OFFERED@
  esac
  _describe 'skyflowctl' offered
}
compdef _skyflowctl skyflowctl
"""
_FISH = r"""# fish completion of skyflowctl; load it with: skyflowctl completion fish | source
function __skyflowctl_path
  set -l words (commandline -opc)
  set -l path $words[2]
  contains -- "$path" @GROUPS@; and set path $path $words[3]
  string join ' ' $path
end
function __skyflowctl_at
  set -l path (__skyflowctl_path)
  test "$path" = "$argv"
end
function __skyflowctl_names
  set -l path (__skyflowctl_path)
  set -l words (commandline -opc)
  set -l current (commandline -ct)
  set -e words[1..(math 1 + (count (string split ' ' "$path")))]
  set -l spec ""
  switch "$path"
@SPECS@
  end
  if test -n "$spec"
    command skyflowctl @COMPLETE@ "$spec" $words "$current" 2>/dev/null
  end
end
complete -c skyflowctl -f
complete -c skyflowctl -n 'contains -- -- (commandline -opc)' -F
complete -c skyflowctl -a '(__skyflowctl_names)'
"""


def _filled(template: str, **parts: str) -> str:
    """Return a script's template with its ``@NAMES@`` replaced."""
    for name, text in {"COMPLETE": COMPLETE, **parts}.items():
        template = template.replace(f"@{name}@", text)
    return template


def _bash(offers: Offers) -> str:
    words = {path: " ".join(found) for path, found in offers.words.items()}
    flags = {path: " ".join(found) for path, found in offers.flags.items()}
    return _filled(
        _BASH,
        GROUPS="|".join(GROUPS),
        VALUES=_cases("values", _choices(offers)),
        WORDS=_cases("words", words),
        FLAGS=_cases("flags", flags),
        SPECS=_cases("spec", offers.specs),
    )


def _choices(offers: Offers) -> dict[str, str]:
    return {
        f"{path} {flag}": " ".join(choices)
        for path, found in offers.values.items()
        for flag, choices in found.items()
    }


def _cases(variable: str, texts: Mapping[str, str]) -> str:
    return "\n".join(f'    "{key}") {variable}="{text}" ;;' for key, text in texts.items())


def _zsh(offers: Offers) -> str:
    cases = []
    for path in dict.fromkeys([*offers.words, *offers.flags]):
        offered = {**offers.words.get(path, {}), **offers.flags.get(path, {})}
        rows = "\n".join(f"      '{word}:{_quoted(text)}'" for word, text in offered.items())
        cases.append(f'    "{path}") offered=(\n{rows}\n    ) ;;')
    return _filled(
        _ZSH,
        GROUPS="|".join(GROUPS),
        VALUES=_cases("values", _choices(offers)),
        SPECS=_cases("spec", offers.specs),
        OFFERED="\n".join(cases),
    )


def _quoted(text: str) -> str:
    return text.replace("'", "").replace(":", " -")


def _fish(offers: Offers) -> str:
    specs = [f"    case '{path}'; set spec '{spec}'" for path, spec in offers.specs.items()]
    lines = [_filled(_FISH, GROUPS=" ".join(GROUPS), SPECS="\n".join(specs)).rstrip("\n")]
    for path, found in offers.words.items():
        lines += [_fish_line(path, f"-a '{word}'", text) for word, text in found.items()]
    for path, found in offers.flags.items():
        spec = offers.specs[path].split()
        if "files" in spec:
            lines.append(f"complete -c skyflowctl -n '__skyflowctl_at {path}' -F")
        kinds = dict(one.split(":") for one in spec if ":" in one)
        for flag, text in found.items():
            choices = offers.values.get(path, {}).get(flag, ())
            lines.append(_fish_line(path, _fish_flag(flag, kinds.get(flag), choices), text))
    return "\n".join(lines) + "\n"


def _fish_flag(flag: str, kind: str | None, choices: tuple[str, ...]) -> str:
    """Return a flag's switches; its kind is None if it takes no value."""
    name = f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
    if kind == "file":
        return f"{name} -rF"
    if choices:
        return f"{name} -xa '{' '.join(choices)}'"
    return name if kind is None else f"{name} -xa '(__skyflowctl_names)'"


def _fish_line(path: str, offer: str, text: str) -> str:
    return f"complete -c skyflowctl -n '__skyflowctl_at {path}' {offer} -d '{_quoted(text)}'"


SCRIPTS: Mapping[str, Callable[[Offers], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
