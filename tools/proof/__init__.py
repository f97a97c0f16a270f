"""The proofs: `tools/truth`, `tools/rtcheck` and `tools/bench`, each a module here, on the rig's private PipeWire."""
