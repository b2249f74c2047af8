"""Agent, launcher, confirm, rollback and installation, through the protocol `effects` alone."""
