"""Fills the index: sources -> documents -> passages -> a new index generation."""
