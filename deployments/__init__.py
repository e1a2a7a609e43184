"""How the flow is scheduled and served."""
