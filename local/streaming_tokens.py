"""Who may call the local Snowpipe Streaming: key-pair logins, and the tokens that they are exchanged for."""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import jwt
from streaming_channels import RefusedError

LIFETIME = 3600
# Snowflake takes no login that is older or younger than its clock says by more than this.
TOLERANCE = 60
_ISSUER = re.compile(r"[^.\s]+\.[^.\s]+\.SHA256:[A-Za-z0-9+/=]+")
_ROLE = re.compile(r"session:role:(\S+)")


@dataclass
class Tokens:
    """Checks logins and tokens.

    The local Snowflake knows no users, so any key is the right one: what the login claims and when it was
    made are checked, its signature isn't.

    :ivar clocks: seconds by which the service's clock is ahead of a user's
    :ivar revoked: roles that have no privilege on any pipe
    """

    clocks: dict[str, float] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)
    _secret: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    def check_login(self, authorization: str) -> dict[str, Any]:
        """Return the claims of a login.

        :raises RefusedError: it isn't one, or is made for another time
        """
        try:
            claims: dict[str, Any] = jwt.decode(_bearer(authorization), options={"verify_signature": False})
        except jwt.PyJWTError:
            raise _refused("JWT token is invalid.") from None
        # The SDK counts in milliseconds.
        user = str(claims.get("sub")).rpartition(".")[2]
        now = (time.time() + self.clocks.get(user, 0)) * 1000
        issuer = str(claims.get("iss"))
        if not _ISSUER.fullmatch(issuer) or not issuer.startswith(f"{claims.get('sub')}."):
            raise _refused("JWT token is invalid: its issuer is not ACCOUNT.USER.SHA256:FINGERPRINT.")
        if claims.get("iat", 0) > now + TOLERANCE * 1000 or claims.get("exp", 0) < now:
            raise _refused("JWT token is invalid: it is expired, or issued in the future.")
        return claims

    def exchange(self, authorization: str) -> str:
        """Give a token for a login."""
        claims = self.check_login(authorization)
        role = _ROLE.search(str(claims.get("scp", "")))
        now = int(time.time())
        given = {"iss": "local", "sub": claims["sub"], "iat": now, "exp": now + LIFETIME}
        return jwt.encode(given | {"role": role[1] if role else ""}, self._secret)

    def check(self, authorization: str, pipe: object) -> None:
        """Refuse who brings no token, and roles without a privilege on the pipe."""
        try:
            claims = jwt.decode(_bearer(authorization), self._secret, algorithms=["HS256"])
        except jwt.PyJWTError:
            raise _refused("The token is invalid or expired.") from None
        if claims["role"] in self.revoked:
            message = f"Pipe {pipe} does not exist or not authorized"
            raise RefusedError(404, "ERR_PIPE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED", message)


def _bearer(authorization: str) -> str:
    return authorization.removeprefix("Bearer ")


def _refused(message: str) -> RefusedError:
    return RefusedError(401, "390144", message)
