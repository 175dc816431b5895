"""What only several replicas can fail of."""

from vimserve.server.errors import Overloaded


class ReplicaLost(Overloaded):
    """The replica that worked on the request died; another one would answer it."""

    slug = "replica-lost"


class ReplicaSilent(Overloaded):
    """The replica did not answer long after the request's deadline."""

    slug = "replica-silent"
