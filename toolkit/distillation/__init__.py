"""TinyBERT's losses and recipes: task distillation and general distillation."""
