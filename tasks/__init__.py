"""The stages of the flow, one thin Prefect task module each, over the pure code in `tasks.core`."""
