"""Self-distillation: a student predicts the output of a teacher, usually its own moving average."""
