"""Eval suites: question sets, metrics, reports."""
