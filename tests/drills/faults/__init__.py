"""The fault drill: each file call of a flow fails, or is the last before a power cut; then the promises are checked."""
