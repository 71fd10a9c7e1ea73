"""wherry: agents that cannot outgrow their context, escape their sandbox, or lose their work."""
