"""The vendor's side: bundles become signed releases in a static folder. Terminals never import this."""
