"""Our models behind LitServe, for comparison; ``__main__`` is the server."""

# How ``common.server.ServerProcess`` starts it, and where it answers.
COMMAND = ("vimserve.loadtests.litserve",)
READY, PATH = "/health", "/classify"
