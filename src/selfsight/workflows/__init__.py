"""Workflows: training, evaluation, discovery and explanation from data set names and run folders."""
