"""Completion scripts: complete, static, and without starting skyflowctl at every TAB.

A script names every command and option at the time it is printed; print it again after an upgrade.
"""

from collections.abc import Callable, Mapping

from skyflowctl.cli.app import every_command
from skyflowctl.cli.help import TOPICS
from skyflowctl.cli.registry import GROUPS, children
from skyflowctl.frozen import dataclass


@dataclass(frozen=True, slots=True)
class Offers:
    """The possible next arguments with summaries, by command path ("" is the root)."""

    words: Mapping[str, Mapping[str, str]]
    flags: Mapping[str, Mapping[str, str]]
    values: Mapping[str, Mapping[str, tuple[str, ...]]]


def collect() -> Offers:
    """Import every command and return all that can be completed."""
    words: dict[str, Mapping[str, str]] = {"": {w: text for w, text, _ in children()}}
    for group in GROUPS:
        words[group] = {word: text for word, text, _ in children(group)}
    words["help"] = {**words[""], **TOPICS}
    words["completion"] = {shell: f"for {shell}" for shell in SCRIPTS}
    flags: dict[str, Mapping[str, str]] = {}
    values: dict[str, dict[str, tuple[str, ...]]] = {}
    for name, command in every_command():
        own = {"--help": "Show the page of this command."}
        for parameter in command.params:
            for flag in parameter.opts if parameter.param_type_name == "option" else ():
                own[flag] = str(getattr(parameter, "help", "") or "").split(" [env:")[0]
                choices = tuple(getattr(parameter.type, "choices", ()))
                if choices:
                    values.setdefault(name, {})[flag] = choices
        flags[name] = own
    return Offers(words, flags, values)


def script_for(shell: str) -> str:
    """Return the completion script of a shell: a key of ``SCRIPTS``."""
    return SCRIPTS[shell](collect())


def _bash(offers: Offers) -> str:
    words = [f'    "{path}") words="{" ".join(found)}" ;;' for path, found in offers.words.items()]
    flags = [f'    "{path}") flags="{" ".join(found)}" ;;' for path, found in offers.flags.items()]
    values = [
        f'    "{path} {flag}") values="{" ".join(choices)}" ;;'
        for path, found in offers.values.items()
        for flag, choices in found.items()
    ]
    groups = "|".join(GROUPS)
    return f"""# bash completion of skyflowctl; load it with: source <(skyflowctl completion bash)
_skyflowctl() {{
  local current previous path="" word index words="" flags="" values=""
  current="${{COMP_WORDS[COMP_CWORD]}}"
  previous="${{COMP_WORDS[COMP_CWORD-1]}}"
  for ((index = 1; index < COMP_CWORD; index++)); do
    word="${{COMP_WORDS[index]}}"
    [[ "$word" == -* ]] && break
    case "$path" in
    "") path="$word" ;;
    {groups}) path="$path $word"; break ;;
    *) break ;;
    esac
  done
  case "$path $previous" in
{chr(10).join(values)}
  esac
  if [[ -n "$values" ]]; then
    COMPREPLY=($(compgen -W "$values" -- "$current"))
    return
  fi
  case "$path" in
{chr(10).join(words)}
  esac
  case "$path" in
{chr(10).join(flags)}
  esac
  if [[ "$current" == -* ]]; then
    COMPREPLY=($(compgen -W "$flags" -- "$current"))
  elif [[ -n "$words" ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$current"))
  fi
}}
complete -o default -F _skyflowctl skyflowctl
"""


def _zsh(offers: Offers) -> str:
    cases = []
    for path in dict.fromkeys([*offers.words, *offers.flags]):
        offered = {**offers.words.get(path, {}), **offers.flags.get(path, {})}
        rows = "\n".join(f"      '{word}:{_quoted(text)}'" for word, text in offered.items())
        cases.append(f'    "{path}") offered=(\n{rows}\n    ) ;;')
    groups = "|".join(GROUPS)
    return f"""#compdef skyflowctl
# zsh completion of skyflowctl; load it with: source <(skyflowctl completion zsh)
_skyflowctl() {{
  local -a offered
  local place="" word
  for word in ${{words[2,CURRENT-1]}}; do
    [[ "$word" == -* ]] && break
    case "$place" in
    "") place="$word" ;;
    {groups}) place="$place $word"; break ;;
    *) break ;;
    esac
  done
  case "$place" in
{chr(10).join(cases)}
  esac
  _describe 'skyflowctl' offered || _files
}}
compdef _skyflowctl skyflowctl
"""


def _quoted(text: str) -> str:
    return text.replace("'", "").replace(":", " -")


def _fish(offers: Offers) -> str:
    lines = [
        "# fish completion of skyflowctl; load it with: skyflowctl completion fish | source",
        "complete -c skyflowctl -f",
    ]
    for path, found in offers.words.items():
        condition = _fish_condition(path)
        lines += [_fish_word(condition, word, text) for word, text in found.items()]
    for path, found in offers.flags.items():
        condition = " ; and ".join(f"__fish_seen_subcommand_from {w}" for w in path.split())
        lines += [_fish_flag(condition, flag, text) for flag, text in found.items()]
    return "\n".join(lines) + "\n"


def _fish_condition(path: str) -> str:
    return f"__fish_seen_subcommand_from {path}" if path else "__fish_use_subcommand"


def _fish_word(condition: str, word: str, text: str) -> str:
    return f"complete -c skyflowctl -n '{condition}' -a '{word}' -d '{_quoted(text)}'"


def _fish_flag(condition: str, flag: str, text: str) -> str:
    kind = f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
    return f"complete -c skyflowctl -n '{condition}' {kind} -d '{_quoted(text)}'"


SCRIPTS: Mapping[str, Callable[[Offers], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
