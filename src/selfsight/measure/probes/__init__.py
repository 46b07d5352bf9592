"""Probes of features: k-NN, linear, SVM, clustering, retrieval, reverse probing."""
