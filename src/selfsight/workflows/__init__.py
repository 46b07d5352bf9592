"""What a user asks for, carried out: train, evaluate, explain, discover."""
