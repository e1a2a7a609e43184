"""What everything stands on: settings, errors, time, memory and progress."""
