"""A stand-in for Hugging Face's login on loopback: OpenID Connect as far as Gradio's button uses it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.support.web.loopback import Answering, Loopback

CLIENT = "the-page"


@contextmanager
def login_provider(accounts: dict[str, str]) -> Iterator[str]:
    """Yields its address.

    accounts: the next person to log in is the last of them, as stable id and user name; whoever comes is let in.
    """
    from joserfc import jwk, jwt

    key = jwk.RSAKey.generate_key(2048, {"kid": "1", "use": "sig", "alg": "RS256"})
    nonces: dict[str, str] = {}

    class Provider(Answering):
        def answer(self):
            address, query = urlsplit(self.path), parse_qs(urlsplit(self.path).query)
            if self.command == "POST":
                return self._token(parse_qs(self.body().decode())["code"][0])
            if address.path == "/oauth/authorize":
                code = str(len(nonces))
                nonces[code] = query["nonce"][0]
                back, given = query["redirect_uri"][0], urlencode({"code": code, "state": query["state"][0]})
                return self.reply(b"", 302, {"Location": f"{back}{'&' if '?' in back else '?'}{given}"})
            if address.path == "/oauth/jwks":
                return self.reply({"keys": [key.as_dict(private=False)]})
            ends = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "jwks"}
            known = {name: f"{server.url}/oauth/{end}" for name, end in ends.items()}
            return self.reply({"issuer": server.url, **known, "id_token_signing_alg_values_supported": ["RS256"]})

        def _token(self, code):
            sub, name = list(accounts.items())[-1]
            now, url = int(time.time()), server.url
            claims = {
                **{"iss": url, "aud": CLIENT, "iat": now, "exp": now + 3600, "nonce": nonces[code], "sub": sub},
                **{"name": name, "preferred_username": name, "profile": f"{url}/{name}", "picture": ""},
            }
            identity = jwt.encode({"alg": "RS256", "kid": "1"}, claims, key)
            token = {"access_token": f"hf_oauth_{name}", "token_type": "bearer", "expires_in": 3600}
            self.reply({**token, "id_token": identity})

    server = Loopback(Provider)
    try:
        yield server.url
    finally:
        server.stop()


def as_space(provider: str) -> dict[str, str]:
    """The variables of a Space whose README asks for a login."""
    return {
        "SYSTEM": "spaces",
        "SPACE_ID": "someone/rankviz",
        "OAUTH_CLIENT_ID": CLIENT,
        "OAUTH_CLIENT_SECRET": "a secret",
        "OAUTH_SCOPES": "openid profile",
        "OPENID_PROVIDER_URL": provider,
    }
