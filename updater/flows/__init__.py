"""Agent, launcher, confirm, rollback and installation; they act only through the protocol in `effects`."""
