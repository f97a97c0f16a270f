"""The words that all others use: errors, the ledger, units, URIs, chunk sizes."""
