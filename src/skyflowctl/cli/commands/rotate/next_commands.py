"""The commands that may follow a rotation; each works as printed."""

from skyflowctl.cli.context.manifests import ChosenMounts
from skyflowctl.cli.printed_commands import shell_words
from skyflowctl.credentials.references import as_word
from skyflowctl.frozen import dataclass
from skyflowctl.operations.rotate.request import RotateRequest
from skyflowctl.rotation.model import MountOutcome, Result, StepName


@dataclass(frozen=True, slots=True)
class NextCommands:
    """Makes the commands; the options that say where are added when they are printed.

    Args:
        request: the command line's request.
        chosen: its mounts, and the manifest.
        dev: the server is the dev stack, which has an operator of its own.
    """

    request: RotateRequest
    chosen: ChosenMounts
    dev: bool = False

    def retire(self, outcome: MountOutcome) -> str:
        """Return the command that retires the old key; empty: no key can be retired.

        Without an operator it destroys only the engine's copy.
        """
        made = {step.name for step in outcome.steps if step.ok}
        rotated = outcome.result is Result.ROTATED and outcome.from_key
        if not rotated or is_basic(outcome) or StepName.DELETE_OLD_KEY in made:
            return ""
        words = ["--retire", outcome.name, "--wait"]
        return _line(*words, *([] if self._has_operator(outcome) else ["--kept-copy-only"]))

    def back(self, outcome: MountOutcome) -> str:
        """Return the command that rolls back; empty: a rollback is not possible."""
        if outcome.result is not Result.ROTATED or not outcome.from_key:
            return ""
        if is_basic(outcome):
            words = self._basic_back(outcome)
        else:
            words = ["--rollback", outcome.name] if self.retire(outcome) else []
        if words and outcome.from_revoked:
            words.append(f"--allow-revoked-key={outcome.from_key}")
        if words and self.request.options.unverified_nodes:
            words.append("--allow-unverified-nodes")
        return _line(*words) if words else ""

    def _basic_back(self, outcome: MountOutcome) -> list[str]:
        """Return both references, swapped: a basic engine keeps no earlier credential."""
        credentials, previous = self.request.typed
        mounts = self.chosen.manifest.mounts if self.chosen.manifest else ()
        declared = next((one.credentials for one in mounts if one.path == outcome.path), None)
        new = credentials or as_word(declared)
        if not previous or not new:
            return []
        allowed = self.request.options.allow_different_account
        other = ["--allow-different-account"] if allowed else []
        return [outcome.name, "--credentials", previous, "--previous", new, *other]

    def _has_operator(self, outcome: MountOutcome) -> bool:
        request, mounts = self.request, self.chosen.mounts or ()
        rule = next((one.rotation for one in mounts if one.path == outcome.path), None)
        token = request.operator_token or (rule and rule.operator_token)
        account = request.account_id or (rule and rule.account_id)
        return self.dev or bool(token and account)


def _line(*words: str) -> str:
    return shell_words(["skyflowctl", "rotate", *words])


def is_basic(outcome: MountOutcome) -> bool:
    """Whether the engine has the basic API: the outcome has a write and no commit."""
    made = {step.name for step in outcome.steps}
    written = StepName.WRITE in made and StepName.COMMIT not in made
    return outcome.result is Result.ROTATED and written
