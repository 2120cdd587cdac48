"""A generation: reads the order, asks the provider, stores what came back, has it charged."""
