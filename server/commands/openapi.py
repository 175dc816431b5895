"""Print the OpenAPI document: ``python -m vimserve.server.commands.openapi``."""

import json

from vimserve.server.app import create_app
from vimserve.server.config import ServerConfig

if __name__ == "__main__":
    print(json.dumps(create_app(ServerConfig()).openapi(), indent=2, ensure_ascii=False))
