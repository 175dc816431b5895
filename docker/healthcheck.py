"""Checks that this container's server is ready: ``python docker/healthcheck.py``."""

import ssl
import sys
import urllib.request

from vimserve.server.config import ServerConfig


def main() -> int:
    """Return 0 if the server is ready, 1 if not."""
    config = ServerConfig()
    scheme = "http" if config.tls_certificate is None else "https"
    # The server is in this container, so its certificate need not be valid for 127.0.0.1.
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    url = f"{scheme}://127.0.0.1:{config.port}/readyz"
    try:
        with urllib.request.urlopen(url, timeout=4, context=trusting):  # noqa: S310
            return 0
    except OSError as error:
        print(error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
