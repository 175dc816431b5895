"""Many replicas behind routers, simulated with the real scheduler, router and scaling."""
