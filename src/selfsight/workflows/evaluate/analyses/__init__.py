"""Measures of whole networks, asked for by name: what layers say of changed pictures, of each other, of concepts, and of other networks.

Each is a function from a representation and what it is measured on (``AnalysisInput``) to a table of scores with its protocol, and has a floor:
the same of the untrained network, its batch statistics estimated on training pictures (for ``stitching``: of the network that is stitched
to it). The parts of a score's name are separated by ``/``, such as ``horizontal flip/stages.1/ridge``. Where a layer is not named, all that
are worth looking at are taken; pictures are drawn evenly from the data set, as many as each measure says.
"""
