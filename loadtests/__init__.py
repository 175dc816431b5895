"""Measurements and load tests.

Each tool is a module or package here and is run as ``python -m vimserve.loadtests.TOOL``; users of
Locust start it with ``locustfile.py``. ``common`` holds what several tools share.
"""
