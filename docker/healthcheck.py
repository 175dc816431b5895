"""Whether the server of this container is ready: ``python docker/healthcheck.py``."""

import ssl
import sys
import urllib.request

from vimserve.server.config import ServerConfig


def main() -> int:
    """0 if it is."""
    config = ServerConfig()
    scheme = "http" if config.tls_certificate is None else "https"
    # It is this container's own server that is asked, whatever name its certificate has.
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
