"""Services that run the agent, one module per service manager: systemd, launchd, the service manager of Windows."""
