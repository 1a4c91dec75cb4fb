"""What every service shares: settings, logs, metrics, errors, body limits, health, the app around its routes."""
