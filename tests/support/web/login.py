"""A stand-in for Hugging Face's login on loopback: OpenID Connect as far as Gradio's button uses it."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

CLIENT = "the-page"


@contextmanager
def login_provider(accounts: dict[str, str]) -> Iterator[str]:
    """Yields its address.

    accounts: the next person to log in is the last of them, as stable id and user name; whoever comes is let in.
    """
    from joserfc import jwk, jwt

    key = jwk.RSAKey.generate_key(2048, {"kid": "1", "use": "sig", "alg": "RS256"})
    nonces: dict[str, str] = {}

    class Provider(BaseHTTPRequestHandler):
        def do_GET(self):
            address, query = urlsplit(self.path), parse_qs(urlsplit(self.path).query)
            if address.path == "/oauth/authorize":
                code = str(len(nonces))
                nonces[code] = query["nonce"][0]
                back = query["redirect_uri"][0]
                self.send_response(302)
                self.send_header(
                    "Location",
                    f"{back}{'&' if '?' in back else '?'}{urlencode({'code': code, 'state': query['state'][0]})}",
                )
                self.end_headers()
            elif address.path == "/oauth/jwks":
                self._answer({"keys": [key.as_dict(private=False)]})
            else:
                self._answer(
                    {
                        "issuer": url,
                        "authorization_endpoint": f"{url}/oauth/authorize",
                        "token_endpoint": f"{url}/oauth/token",
                        "jwks_uri": f"{url}/oauth/jwks",
                        "id_token_signing_alg_values_supported": ["RS256"],
                    }
                )

        def do_POST(self):
            code = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["code"][0]
            sub, name = list(accounts.items())[-1]
            now = int(time.time())
            claims = {
                **{"iss": url, "aud": CLIENT, "iat": now, "exp": now + 3600, "nonce": nonces[code], "sub": sub},
                **{"name": name, "preferred_username": name, "profile": f"{url}/{name}", "picture": ""},
            }
            identity = jwt.encode({"alg": "RS256", "kid": "1"}, claims, key)
            self._answer(
                {"access_token": f"hf_oauth_{name}", "token_type": "bearer", "expires_in": 3600, "id_token": identity}
            )

        def log_message(self, *_):
            pass

        def _answer(self, content):
            data = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield url
    finally:
        server.shutdown()


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
