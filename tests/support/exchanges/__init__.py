"""Documented requests and answers, one module for each provider, with `EXCHANGES`."""
