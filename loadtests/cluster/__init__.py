"""A cluster under load: what its router costs, and what it survives."""
