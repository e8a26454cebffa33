"""Tree search; the only room that imports mctx."""
