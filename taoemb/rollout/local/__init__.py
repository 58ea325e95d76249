"""Rolling out between processes of this machine."""
