"""Metaflowbot: answers the Metaflow community's questions, with citations that hold."""
