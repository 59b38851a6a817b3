"""Joins a login with the entities that may log in by it: tokens get their policies, too."""

from skyflowctl.frozen import dataclass
from skyflowctl.posture.facts import Entity, EntityAlias, Identities, Login, NotRead


@dataclass(frozen=True, slots=True)
class HeldPolicies:
    """The policies of a login's tokens.

    Args:
        of_login: those of the login alone.
        entity: who logs in, if the server knows an identity; its policies count, too.
        sure: False if it is not known whether this entity logs in by this login.
    """

    of_login: frozenset[str]
    entity: Entity | None = None
    sure: bool = True

    @property
    def names(self) -> frozenset[str]:
        """All of them."""
        return self.of_login | self.entity.policies if self.entity else self.of_login


def held_policies(
    login: Login, alias: str | NotRead | None, identities: Identities
) -> list[HeldPolicies]:
    """Return what a login's tokens hold, for each entity that logs in by it, or may.

    Args:
        login: the login.
        alias: its own alias in identities; None or unread: it is not known which entities log in
            by it. The first result is then the login without any.
        identities: the entities.
    """
    names, mount = frozenset(login.policies), auth_mount_of(login)
    there = identities.at(mount)
    sure = isinstance(alias, str)
    if isinstance(alias, str):
        own = EntityAlias(mount, alias)
        there = [one for one in there if own in one.aliases]
    alone = [] if sure and there else [HeldPolicies(names)]
    return alone + [HeldPolicies(names, one, sure) for one in there]


def auth_mount_of(login: Login) -> str:
    """Return the path of a login's auth mount; empty if it has none."""
    return login.name.rpartition("/")[0]
