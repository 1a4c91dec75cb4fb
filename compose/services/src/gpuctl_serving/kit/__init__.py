"""What every service shares: settings, logs, metrics, errors, limits, health, the app around its routes."""
