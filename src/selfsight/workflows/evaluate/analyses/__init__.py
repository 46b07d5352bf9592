"""Analyses of whole networks by name: layers under image transformations, similarity, concepts, and other networks.

Each is a function from a representation and an ``AnalysisInput`` to scores with a protocol. Its baseline is the same analysis of the
untrained network, with batch statistics estimated on training images (for ``stitching``: of the network that is stitched to it). The parts
of a score's name are separated by ``/``, such as ``horizontal flip/stages.1/ridge``. Without ``layers``, all of ``phi.layers`` are used;
images are evenly spaced in the data set, as many as each analysis needs.
"""
